//! Checks whether the residual network in a file is the wanted one. Related networks (ResNet-D, SE-ResNet, anti-aliased
//! ResNets) can share names and shapes with a plain ResNet and still compute other features, so their signs are looked
//! for and reported.

use std::collections::{BTreeMap, BTreeSet};

use foveal_backbone::{BackboneKind, BackboneNorm, BlockKind, STAGES};

use crate::layout::ResidualNetwork;
use crate::{HostTensor, TensorMap};

/// Suffix of the integer step counters in torch's batch norms.
const COUNTER: &str = ".num_batches_tracked";
/// Parts of timm's names for networks with anti-aliased strides. The anti-aliasing has no weights, so these networks
/// have the same tensor names and shapes as a plain ResNet.
const UNSEEN: [&str; 2] = ["resnetblur", "resnetaa"];

/// Why a file is refused (`found`) and what the user can do (`advice`).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the file contains instead of the wanted network.
    pub found: String,
    /// What the user can do, as an imperative.
    pub advice: String,
}

fn refuse(found: impl Into<String>, advice: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal { found: found.into(), advice: advice.into() })
}

/// Advice for networks that are not supported.
const PLAIN: &str = "use the weights of the plain network";

/// The network that a file should contain.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The backbone network that is wanted (`model.backbone`).
    pub kind: BackboneKind,
    /// Kind of normalisation layers that is wanted (`model.norm`).
    pub norm: BackboneNorm,
    /// Shapes of the wanted network's parameters and statistics, by torchvision's names.
    pub shapes: &'a BTreeMap<String, Vec<usize>>,
}

impl Wanted<'_> {
    /// Whether the network has a tensor of this name with as many axes. The sizes are compared when tensors are loaded.
    fn has(&self, name: &str, tensor: &HostTensor) -> bool {
        self.shapes.get(name).is_some_and(|shape| shape.len() == tensor.shape.len())
    }
}

/// Refuses all networks except the wanted one, or a part of it. `arch` is the network's name stored in the file.
pub(crate) fn check(found: &ResidualNetwork, wanted: &Wanted<'_>, arch: Option<&str>) -> Result<(), Refusal> {
    if let Some(arch) = arch
        && UNSEEN.iter().any(|name| arch.to_lowercase().contains(name))
    {
        return refuse(format!("a {arch}, which blurs its features before strided layers"), PLAIN);
    }
    for (name, tensor) in found.tensors.iter().filter(|(name, tensor)| !wanted.has(name, tensor)) {
        foreign(name, tensor)?;
    }
    if let Some(other) = found.others.iter().find(|o| !o.name.ends_with(COUNTER)) {
        let found = format!("{} of type {}, which is not a floating-point type", other.name, other.dtype);
        return refuse(found, "use weights that are not quantised");
    }
    structure(&found.tensors, wanted.kind)?;
    norms(&found.tensors, wanted.norm)
}

/// Refuses a tensor that the wanted network does not have and says to which other network it belongs. Tensors of a
/// residual network of another depth are left to [`structure`].
fn foreign(name: &str, tensor: &HostTensor) -> Result<(), Refusal> {
    let parts: Vec<&str> = name.split('.').collect();
    let in_norm = |leaf: &str| ["weight", "bias", "running_mean", "running_var"].contains(&leaf);
    match parts.as_slice() {
        ["bn1", leaf] if in_norm(leaf) => Ok(()),
        ["conv1" | "bn1" | "conv2" | "bn2" | "conv3" | "bn3" | "stem" | "layer0", ..] if name != "conv1.bias" => {
            refuse(
                format!("a stem of several layers ({name}), as in ResNet-C, ResNet-D and CLIP"),
                "use the weights of the plain network, whose stem is one 7x7 convolution",
            )
        }
        ["layer5", ..] => refuse(format!("a network of five stages ({name})"), PLAIN),
        [_, _, "conv1" | "conv2" | "conv3", "weight"] => Ok(()),
        [_, _, "bn1" | "bn2" | "bn3", leaf] if in_norm(leaf) => Ok(()),
        [_, _, "downsample", "0", "weight"] => Ok(()),
        [_, _, "downsample", "1", leaf] if in_norm(leaf) && tensor.shape.len() < 4 => Ok(()),
        [_, _, "downsample", ..] => refuse(format!("shortcuts of another structure ({name}), as in ResNet-D"), PLAIN),
        ["conv1", "bias"] | [_, _, "conv1" | "conv2" | "conv3", "bias"] => {
            let found = format!("convolutions with biases ({name}), that is, a network with its norms folded away");
            refuse(found, "use weights with norms")
        }
        [_, _, module, ..] => refuse(format!("blocks with a module `{module}` ({name})"), PLAIN),
        _ => refuse(format!("a tensor {name}, which that network does not have"), PLAIN),
    }
}

/// Structure of a residual network, derived from tensor names and shapes.
#[derive(Debug)]
struct Structure {
    depths: [usize; STAGES],
    block: BlockKind,
    /// Stage width, inner channels and channels per group of layer1's first bottleneck, if the file contains it.
    widths: Option<[usize; 3]>,
}

impl Structure {
    fn of(tensors: &TensorMap) -> Self {
        let (mut depths, mut block) = ([0; STAGES], BlockKind::Basic);
        for name in tensors.keys() {
            let parts: Vec<&str> = name.split('.').collect();
            let [stage, index, module, ..] = parts.as_slice() else { continue };
            let stage = stage.strip_prefix("layer").and_then(|n| n.parse::<usize>().ok()).unwrap_or_default();
            if let (Ok(index), Some(depth)) = (index.parse::<usize>(), depths.get_mut(stage.wrapping_sub(1))) {
                *depth = (*depth).max(index.saturating_add(1));
            }
            if ["conv3", "bn3"].contains(module) {
                block = BlockKind::Bottleneck;
            }
        }
        let shape = |conv: &str| tensors.get(&format!("layer1.0.{conv}.weight")).map(|t| t.shape.as_slice());
        let widths = match (shape("conv2"), shape("conv3")) {
            (Some([inner, in_group, ..]), Some([outputs, ..])) => {
                Some([outputs / BlockKind::Bottleneck.expansion(), *inner, *in_group]).filter(|w| w[0] > 0)
            }
            _ => None,
        };
        Self { depths, block, widths }
    }

    /// Whether this is the structure of a complete network of the given kind.
    fn is(&self, kind: BackboneKind) -> bool {
        let spec = kind.spec();
        let fits =
            |[width, inner, in_group]: [usize; 3]| spec.inner_width(width) == inner && in_group * spec.groups == inner;
        spec.depths == self.depths && spec.block == self.block && self.widths.is_none_or(fits)
    }
}

/// Refuses a network of another depth or width. Stages may be missing, and so may blocks at the end of a stage.
fn structure(tensors: &TensorMap, kind: BackboneKind) -> Result<(), Refusal> {
    let found = Structure::of(tensors);
    let wanted = kind.spec();
    let same = BackboneKind::ALL.into_iter().find(|k| found.is(*k));
    let is_part = found.block == wanted.block && found.depths.iter().zip(wanted.depths).all(|(d, w)| *d <= w);
    if found.is(kind) || (same.is_none() && is_part) {
        return Ok(());
    }
    let blocks = match found.block {
        BlockKind::Basic => "basic blocks",
        BlockKind::Bottleneck => "bottlenecks",
    };
    match same {
        Some(same) => refuse(same.name(), format!("set model.backbone = \"{}\"", same.name())),
        None => refuse(
            format!("stages with {:?} {blocks}", found.depths),
            format!(
                "{} has stages with {:?} blocks; use weights of that network, or set model.backbone to the network of \
                 this file",
                kind.name(),
                wanted.depths
            ),
        ),
    }
}

/// Refuses norms of another kind than `norm`, and negative variances.
fn norms(tensors: &TensorMap, norm: BackboneNorm) -> Result<(), Refusal> {
    let statistics: BTreeSet<&str> = tensors.keys().filter_map(|name| name.strip_suffix(".running_var")).collect();
    let is_scale = |name: &String| name.ends_with(".weight") && (name.contains("bn") || name.contains("downsample.1."));
    match norm {
        BackboneNorm::Group if !statistics.is_empty() => refuse(
            format!("{} batch norms with statistics, while model.norm is \"group\"", statistics.len()),
            "set model.norm = \"frozen_batch\" or \"frozen_statistics\", or \"batch\" for large batches",
        )?,
        BackboneNorm::FrozenBatch | BackboneNorm::FrozenStatistics | BackboneNorm::Batch
            if statistics.is_empty() && tensors.keys().any(is_scale) =>
        {
            refuse(
                "norms without statistics, such as group norms",
                "set model.norm = \"group\", or use weights of a network with batch norms",
            )?
        }
        _ => {}
    }
    let negative = |name: &&&str| tensors[&format!("{name}.running_var")].values.iter().any(|v| *v < 0.0);
    match statistics.iter().find(negative) {
        Some(name) => refuse(format!("a negative variance in {name}.running_var"), "the file is damaged"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use foveal_backbone::Body;
    use foveal_nn::Init;

    use crate::layout::residual_network;
    use crate::{OtherTensor, WeightFile, tensor_shapes};

    /// Names of a ResNet's tensors.
    fn file(kind: BackboneKind) -> WeightFile {
        let mut file = WeightFile::default();
        let mut add = |name: String, axes: usize| {
            file.tensors.insert(name, HostTensor { shape: vec![1; axes], values: vec![1.0] });
        };
        let convs = if kind.spec().block == BlockKind::Basic { 2 } else { 3 };
        let mut layer = |conv: String, norm: String| {
            add(format!("{conv}.weight"), 4);
            for leaf in ["weight", "bias", "running_mean", "running_var"] {
                add(format!("{norm}.{leaf}"), 1);
            }
        };
        layer("conv1".into(), "bn1".into());
        for (stage, depth) in kind.spec().depths.into_iter().enumerate() {
            for block in 0..depth {
                let place = format!("layer{}.{block}", stage + 1);
                for conv in 1..=convs {
                    layer(format!("{place}.conv{conv}"), format!("{place}.bn{conv}"));
                }
            }
            let place = format!("layer{}.0.downsample", stage + 1);
            layer(format!("{place}.0"), format!("{place}.1"));
        }
        file
    }

    fn outcome(file: WeightFile, kind: BackboneKind, norm: BackboneNorm) -> String {
        match check_as(file, kind, norm, None) {
            Ok(()) => String::new(),
            Err(Refusal { found, advice }) => format!("{found}: {advice}"),
        }
    }

    fn check_as(file: WeightFile, kind: BackboneKind, norm: BackboneNorm, arch: Option<&str>) -> Result<(), Refusal> {
        let body = Body::new(kind, 64, norm, &mut Init::counting(), &Device::flex());
        check(&residual_network(file).unwrap(), &Wanted { kind, norm, shapes: &tensor_shapes(&body) }, arch)
    }

    /// A ResNet-50's file after a change, as a ResNet-50.
    fn changed(change: impl FnOnce(&mut WeightFile)) -> String {
        let mut file = file(BackboneKind::ResNet50);
        change(&mut file);
        outcome(file, BackboneKind::ResNet50, BackboneNorm::FrozenBatch)
    }

    #[test]
    fn plain_networks_pass_whole_and_in_part() {
        for kind in BackboneKind::ALL {
            assert_eq!(outcome(file(kind), kind, BackboneNorm::Batch), "");
        }
        let part = changed(|f| f.tensors.retain(|name, _| !name.starts_with("layer4.1") && !name.contains("layer4.2")));
        assert_eq!(part, "");
        let counter = OtherTensor { name: "bn1.num_batches_tracked".into(), dtype: "I64".into() };
        assert_eq!(changed(|f| f.others.push(counter)), "");
    }

    #[test]
    fn other_depths_are_named() {
        let other = |found: BackboneKind, wanted: BackboneKind| outcome(file(found), wanted, BackboneNorm::FrozenBatch);
        for (found, wanted) in [
            (BackboneKind::ResNet101, BackboneKind::ResNet50),
            (BackboneKind::ResNet50, BackboneKind::ResNet101),
            (BackboneKind::ResNet34, BackboneKind::ResNet50),
            (BackboneKind::ResNet18, BackboneKind::ResNet34),
        ] {
            assert_eq!(other(found, wanted), format!("{0}: set model.backbone = \"{0}\"", found.name()));
        }
        // Only widths tell a ResNeXt from a ResNet of the same depth.
        let grouped = changed(|f| {
            f.tensors.get_mut("layer1.0.conv2.weight").unwrap().shape = vec![128, 4, 3, 3];
            f.tensors.get_mut("layer1.0.conv3.weight").unwrap().shape = vec![256, 128, 1, 1];
        });
        assert_eq!(grouped, "resnext50_32x4d: set model.backbone = \"resnext50_32x4d\"");
        let tensor = HostTensor { shape: vec![1; 4], values: vec![1.0] };
        let deeper = changed(|f| drop(f.tensors.insert("layer2.4.conv1.weight".into(), tensor)));
        assert!(deeper.contains("[3, 5, 6, 3] bottlenecks"), "{deeper}");
    }

    #[test]
    fn relatives_are_refused_by_what_tells_them() {
        let with = |names: &[&str], axes: usize| {
            changed(|f| {
                let tensor = HostTensor { shape: vec![1; axes], values: vec![1.0] };
                f.tensors.extend(names.iter().map(|n| ((*n).to_owned(), tensor.clone())));
            })
        };
        // timm's resnet50d, open_clip's RN50, timm's resnet50d again, seresnet50, ecaresnet50, DCN of Detectron2.
        for (names, axes, words) in [
            (&["conv1.0.weight", "conv1.1.running_mean"][..], 4, "a stem of several layers (conv1.0.weight)"),
            (&["conv2.weight", "bn3.bias"], 4, "a stem of several layers"),
            (&["layer2.0.downsample.1.weight"], 4, "shortcuts of another structure (layer2.0.downsample.1.weight)"),
            (&["layer2.0.downsample.2.running_var"], 1, "shortcuts of another structure"),
            (&["layer1.0.se.fc1.weight"], 4, "a module `se` (layer1.0.se.fc1.weight)"),
            (&["layer1.2.eca.conv.weight"], 3, "a module `eca`"),
            (&["layer3.0.conv2_offset.weight", "layer3.0.conv2_offset.bias"], 4, "a module `conv2_offset`"),
            (&["layer1.0.conv1.bias"], 1, "folded away"),
            (&["conv1.bias"], 1, "folded away"),
            (&["layer5.0.conv1.weight"], 4, "a network of five stages"),
        ] {
            let text = with(names, axes);
            assert!(text.contains(words), "{names:?}: {text}");
        }
        let quantised = OtherTensor { name: "layer1.0.conv1.weight".into(), dtype: "I8".into() };
        assert!(changed(|f| f.others.push(quantised)).contains("layer1.0.conv1.weight of type I8"));
        let kind = BackboneKind::ResNet50;
        let blurred = check_as(file(kind), kind, BackboneNorm::FrozenBatch, Some("resnetblur50"));
        assert!(blurred.unwrap_err().found.contains("resnetblur50"));
    }

    #[test]
    fn norms_of_another_kind_are_refused() {
        let kind = BackboneKind::ResNet18;
        let group = outcome(file(kind), kind, BackboneNorm::Group);
        assert!(group.contains("model.norm = \"frozen_batch\""), "{group}");
        let mut without = file(kind);
        without.tensors.retain(|name, _| !name.contains("running"));
        assert_eq!(outcome(without.clone(), kind, BackboneNorm::Group), "");
        let batch = outcome(without.clone(), kind, BackboneNorm::Batch);
        assert_eq!(outcome(without, kind, BackboneNorm::FrozenStatistics), batch);
        assert!(batch.contains("norms without statistics") && batch.contains("model.norm = \"group\""), "{batch}");
        let negative = changed(|f| f.tensors.get_mut("layer1.0.bn2.running_var").unwrap().values[0] = -0.5);
        assert!(negative.contains("negative variance in layer1.0.bn2.running_var"), "{negative}");
    }
}
