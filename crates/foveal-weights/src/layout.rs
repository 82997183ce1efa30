//! Finds the residual network in a weight file and converts its tensor names to torchvision's.

use std::collections::BTreeMap;

use crate::{OtherTensor, TensorMap, WeightFile};

/// Naming scheme of the tensors in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layout {
    /// Names of torchvision and of timm's plain ResNets: `layer1.0.conv1.weight`.
    Torchvision,
    /// Names of Detectron2: `res2.0.conv1.weight`.
    Detectron2,
}

impl Layout {
    /// The name of the first stage.
    fn stage(self) -> &'static str {
        match self {
            Self::Torchvision => "layer1",
            Self::Detectron2 => "res2",
        }
    }
}

/// The residual network found in a file.
#[derive(Debug)]
pub(crate) struct ResidualNetwork {
    /// Naming scheme of the tensors in the file.
    pub layout: Layout,
    /// The network's tensors, under torchvision's names.
    pub tensors: TensorMap,
    /// The network's tensors that are not of a floating-point type, under torchvision's names.
    pub others: Vec<OtherTensor>,
    /// Names of the floating-point tensors in the file that do not belong to the network.
    pub rest: Vec<String>,
}

/// Why no single residual network was found in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoNetwork {
    /// The file contains no residual network.
    None,
    /// The file contains several networks with the same number of tensors; the names of their first stages.
    Several(Vec<String>),
}

/// Names of the parts of torchvision's ResNet and of its relatives with other stems.
const TORCHVISION_PARTS: [&str; 13] = [
    "conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "stem", "layer0", "layer1", "layer2", "layer3", "layer4", "layer5",
];
const DETECTRON_PARTS: [&str; 5] = ["stem", "res2", "res3", "res4", "res5"];
/// Prefix of the classifier in Detectron2's converted ImageNet files.
const DETECTRON_CLASSIFIER: &str = "stem.fc.";

/// Finds the residual network by the names of its stages, with any prefix (`module.`, `backbone.body.`, `encoder.`,
/// `backbone.bottom_up.`). Of several networks the one with the most tensors is taken.
pub(crate) fn residual_network(file: WeightFile) -> Result<ResidualNetwork, NoNetwork> {
    let (prefix, layout) = find(&file)?;
    let own = |name: &str| -> Option<String> {
        let name = name.strip_prefix(&prefix)?;
        let part = name.split('.').next().unwrap_or_default();
        match layout {
            Layout::Torchvision => TORCHVISION_PARTS.contains(&part).then(|| name.to_owned()),
            Layout::Detectron2 if name.starts_with(DETECTRON_CLASSIFIER) => None,
            Layout::Detectron2 => DETECTRON_PARTS.contains(&part).then(|| from_detectron(name)),
        }
    };
    let mut body = ResidualNetwork { layout, tensors: TensorMap::new(), others: Vec::new(), rest: Vec::new() };
    for (name, tensor) in file.tensors {
        match own(&name) {
            Some(own) => drop(body.tensors.insert(own, tensor)),
            None => body.rest.push(name),
        }
    }
    for other in file.others {
        if let Some(name) = own(&other.name) {
            body.others.push(OtherTensor { name, dtype: other.dtype });
        }
    }
    Ok(body)
}

fn find(file: &WeightFile) -> Result<(String, Layout), NoNetwork> {
    let mut counts: BTreeMap<(String, Layout), usize> = BTreeMap::new();
    for name in file.tensors.keys().chain(file.others.iter().map(|o| &o.name)) {
        if let Some(place) = stage(name) {
            *counts.entry(place).or_default() += 1;
        }
    }
    let most = counts.values().max().copied().ok_or(NoNetwork::None)?;
    let mut places = counts.into_iter().filter(|(_, count)| *count == most).map(|(place, _)| place);
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (first, second) => {
            let all = first.into_iter().chain(second).chain(places);
            Err(NoNetwork::Several(all.map(|(prefix, layout)| format!("{prefix}{}", layout.stage())).collect()))
        }
    }
}

/// The prefix before `layer1.0.` or `res2.0.` in a tensor name, and the naming scheme.
fn stage(name: &str) -> Option<(String, Layout)> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = name.split('.').collect();
    let at = parts.windows(2).position(|pair| {
        let stage = pair[0].strip_prefix("layer").or(pair[0].strip_prefix("res"));
        stage.is_some_and(number) && number(pair[1])
    })?;
    let layout = if parts[at].starts_with("layer") { Layout::Torchvision } else { Layout::Detectron2 };
    Some((parts[..at].iter().map(|part| format!("{part}.")).collect(), layout))
}

/// Converts a name of Detectron2 to torchvision's. Parts for which torchvision has no name are kept.
fn from_detectron(name: &str) -> String {
    let (place, leaf) = match name.split_once('.') {
        Some(("stem", leaf)) => (String::new(), leaf),
        Some((stage, rest)) => {
            let number = stage.trim_start_matches("res").parse::<usize>().unwrap_or_default().saturating_sub(1);
            match rest.split_once('.') {
                Some((block, leaf)) => (format!("layer{number}.{block}."), leaf),
                None => return name.to_owned(),
            }
        }
        None => return name.to_owned(),
    };
    let leaf = match leaf.split('.').collect::<Vec<_>>().as_slice() {
        ["shortcut", "norm", leaf] => format!("downsample.1.{leaf}"),
        ["shortcut", leaf] => format!("downsample.0.{leaf}"),
        [conv @ ("conv1" | "conv2" | "conv3"), "norm", leaf] => format!("bn{}.{leaf}", &conv[4..]),
        _ => leaf.to_owned(),
    };
    format!("{place}{leaf}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostTensor;

    fn file(names: &[&str]) -> WeightFile {
        let tensor = HostTensor { shape: vec![1], values: vec![0.0] };
        WeightFile {
            tensors: names.iter().map(|n| ((*n).to_owned(), tensor.clone())).collect(),
            ..WeightFile::default()
        }
    }

    fn names(names: &[&str]) -> (Vec<String>, Vec<String>) {
        let body = residual_network(file(names)).unwrap();
        (body.tensors.into_keys().collect(), body.rest)
    }

    #[test]
    fn prefixes_are_whatever_stands_before_the_stages() {
        for prefix in ["", "module.", "backbone.body.", "encoder.", "model.backbone."] {
            let (own, rest) = names(&[
                &format!("{prefix}conv1.weight"),
                &format!("{prefix}layer1.0.bn2.bias"),
                &format!("{prefix}fc.weight"),
                "neck.layer.weight",
            ]);
            assert_eq!(own, ["conv1.weight", "layer1.0.bn2.bias"], "{prefix}");
            assert_eq!(rest.len(), 2, "{prefix}");
        }
    }

    #[test]
    fn detectrons_names_become_torchvisions() {
        let (own, rest) = names(&[
            "backbone.bottom_up.stem.conv1.weight",
            "backbone.bottom_up.stem.conv1.norm.running_var",
            "backbone.bottom_up.stem.fc.weight",
            "backbone.bottom_up.res2.0.shortcut.weight",
            "backbone.bottom_up.res2.0.shortcut.norm.bias",
            "backbone.bottom_up.res5.2.conv3.weight",
            "backbone.bottom_up.res5.2.conv3.norm.weight",
            "backbone.fpn_lateral3.weight",
            "pixel_mean",
        ]);
        assert_eq!(
            own,
            [
                "bn1.running_var",
                "conv1.weight",
                "layer1.0.downsample.0.weight",
                "layer1.0.downsample.1.bias",
                "layer4.2.bn3.weight",
                "layer4.2.conv3.weight"
            ]
        );
        assert_eq!(rest.len(), 3);
        assert_eq!(from_detectron("res4.1.conv2_offset.weight"), "layer3.1.conv2_offset.weight");
    }

    #[test]
    fn one_of_several_networks_is_not_guessed() {
        let several = residual_network(file(&["encoder_q.layer1.0.bn1.bias", "encoder_k.layer1.0.bn1.bias"]));
        assert_eq!(
            several.unwrap_err(),
            NoNetwork::Several(vec!["encoder_k.layer1".into(), "encoder_q.layer1".into()])
        );
        // The larger of two is taken: Detectron2's C4 detectors have res5 in their heads.
        let (own, rest) = names(&["backbone.res2.0.conv1.weight", "backbone.res2.1.conv1.weight", "roi.res5.0.x"]);
        assert_eq!((own.len(), rest.len()), (2, 1));
        assert_eq!(residual_network(file(&["a.b", "layers.0.weight"])).unwrap_err(), NoNetwork::None);
    }
}
