//! Finds out which backbone a weight file contains.

use std::path::Path;

use burn::tensor::Device;
use foveal_backbone::{BackboneKind, BackboneNorm, Body};
use foveal_nn::Init;

use crate::convention::{self, WeightsConvention};
use crate::layout::{NoNetwork, ResidualNetwork, residual_network};
use crate::plain::{self, Refusal, Wanted};
use crate::{WeightsError, read_weight_file, tensor_shapes};

/// Width of the stem of all published networks.
const BASE_WIDTH: usize = 64;

/// The backbone that a weight file contains, as found by [`find_backbone`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBackbone {
    /// The architecture, for `model.backbone`.
    pub kind: BackboneKind,
    /// The norms for training from these weights: `frozen_batch` if the file has running statistics, else `group`.
    pub norm: BackboneNorm,
    /// Names (as in torchvision) of the network's tensors that the file lacks, in alphabetical order. They start from
    /// random values.
    pub missing: Vec<String>,
    /// Number of tensors of the network that the file contains.
    pub present: usize,
}

/// Finds the backbone whose weights a `.pth` or `.safetensors` file contains, as a whole or in part. If the tensors fit
/// several networks, as those of the first stages do, the one that lacks the fewest tensors is taken.
///
/// # Errors
/// [`WeightsError::Io`], [`WeightsError::Format`] or [`WeightsError::NonFinite`] if the file cannot be read;
/// [`WeightsError::NoMatch`] if it contains no ResNet; [`WeightsError::Refused`] if it contains a network that is none
/// of [`BackboneKind::ALL`], or if its input convention is ambiguous and `convention` is [`WeightsConvention::Auto`].
pub fn find_backbone(path: &Path, convention: WeightsConvention) -> Result<FoundBackbone, WeightsError> {
    let refused = |network: &str, Refusal { found, advice }| WeightsError::Refused {
        path: path.to_owned(),
        network: network.to_owned(),
        found,
        advice,
    };
    let file = read_weight_file(path)?;
    let (arch, names): (_, Vec<String>) = (file.arch.clone(), file.tensors.keys().cloned().collect());
    let network = residual_network(file).map_err(|none| match none {
        NoNetwork::None => WeightsError::NoMatch { path: path.to_owned(), network: "ResNet".to_owned(), found: names },
        NoNetwork::Several(names) => {
            let found = format!("several networks ({}.…)", names.join(".…, "));
            refused("ResNet", Refusal { found, advice: "save only the wanted network to a new file".to_owned() })
        }
    })?;
    let statistics = network.tensors.keys().any(|name| name.ends_with(".running_var"));
    let norm = if statistics { BackboneNorm::FrozenBatch } else { BackboneNorm::Group };
    let mut first_refusal = None;
    let mut best: Option<FoundBackbone> = None;
    for kind in BackboneKind::ALL {
        match as_kind(&network, kind, norm, arch.as_deref()) {
            Ok(found) if best.as_ref().is_none_or(|best| found.missing.len() < best.missing.len()) => {
                best = Some(found)
            }
            Ok(_) => {}
            Err(refusal) => first_refusal = first_refusal.or(Some((kind, refusal))),
        }
    }
    match (best, first_refusal) {
        (Some(best), _) => {
            convention::check(&network, best.kind, convention).map_err(|refusal| refused(best.kind.name(), refusal))?;
            Ok(best)
        }
        (None, Some((kind, refusal))) => Err(refused(kind.name(), refusal)),
        (None, None) => unreachable!("every kind is either found or refused"),
    }
}

/// The network as a part of the backbone `kind`, or why it is none.
fn as_kind(
    network: &ResidualNetwork,
    kind: BackboneKind,
    norm: BackboneNorm,
    arch: Option<&str>,
) -> Result<FoundBackbone, Refusal> {
    let shapes = tensor_shapes(&Body::new(kind, BASE_WIDTH, norm, &mut Init::zeros(), &Device::flex()));
    plain::check(network, &Wanted { kind, norm, shapes: &shapes }, arch)?;
    let advice = || format!("use weights with the tensor shapes of torchvision's {}", kind.name());
    for (name, tensor) in &network.tensors {
        match shapes.get(name) {
            Some(shape) if *shape == tensor.shape => {}
            Some(shape) => {
                let found = format!("{name} of shape {:?} instead of {shape:?}", tensor.shape);
                return Err(Refusal { found, advice: advice() });
            }
            None => {
                let found = format!("a tensor {name}, which that network does not have");
                return Err(Refusal { found, advice: advice() });
            }
        }
    }
    let missing: Vec<String> = shapes.into_keys().filter(|name| !network.tensors.contains_key(name)).collect();
    Ok(FoundBackbone { kind, norm, missing, present: network.tensors.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::{Dtype, TensorView};

    /// A file with tensors of zeros (variances of ones) of the network, as far as `keep` keeps them.
    fn file(dir: &Path, kind: BackboneKind, norm: BackboneNorm, keep: impl Fn(&str) -> bool) -> std::path::PathBuf {
        let shapes = tensor_shapes(&Body::new(kind, BASE_WIDTH, norm, &mut Init::zeros(), &Device::flex()));
        let kept: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
            .into_iter()
            .filter(|(name, _)| keep(name))
            .map(|(name, shape)| {
                let bytes = vec![0; 2 * shape.iter().product::<usize>()];
                (name, shape, bytes)
            })
            .collect();
        let views = kept
            .iter()
            .map(|(name, shape, bytes)| (name.clone(), TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap()));
        let path = dir.join(format!("{}.safetensors", kind.name()));
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        path
    }

    #[test]
    fn whole_networks_and_parts_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let find = |path: &Path| find_backbone(path, WeightsConvention::Torchvision).unwrap();
        for kind in [BackboneKind::ResNet18, BackboneKind::ResNet34, BackboneKind::ResNeXt50_32x4d] {
            let found = find(&file(dir.path(), kind, BackboneNorm::FrozenBatch, |_| true));
            assert_eq!((found.kind, found.norm, found.missing), (kind, BackboneNorm::FrozenBatch, Vec::new()));
        }
        // The first blocks of a ResNet-18 and a ResNet-34 are the same; the ResNet-18 lacks fewer tensors.
        let keep = |name: &str| !name.starts_with("layer4.") || name.starts_with("layer4.0.downsample");
        let found = find(&file(dir.path(), BackboneKind::ResNet18, BackboneNorm::FrozenBatch, keep));
        assert_eq!((found.kind, found.missing.len()), (BackboneKind::ResNet18, 20));
        assert_eq!(found.missing[0], "layer4.0.bn1.bias");
        let group = find(&file(dir.path(), BackboneKind::ResNet18, BackboneNorm::Group, |_| true));
        assert_eq!((group.kind, group.norm), (BackboneKind::ResNet18, BackboneNorm::Group));
    }

    #[test]
    fn other_files_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.safetensors");
        let write = |name: &str, shape: &[usize]| {
            let bytes = vec![0; 4 * shape.iter().product::<usize>()];
            let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).unwrap();
            std::fs::write(&path, safetensors::serialize([(name, view)], None).unwrap()).unwrap();
            find_backbone(&path, WeightsConvention::Auto).unwrap_err().to_string()
        };
        let text = write("neck.weight", &[4, 4]);
        assert!(text.contains("other.safetensors") && text.contains("no ResNet among the 1 tensors"), "{text}");
        let text = write("layer1.0.conv1.weight", &[48, 48, 3, 3]);
        assert!(text.contains("[48, 48, 3, 3] instead of [64, 64, 3, 3]"), "{text}");
        let text = write("layer1.0.se.fc.weight", &[4, 4, 1, 1]);
        assert!(text.contains("a module `se`"), "{text}");
    }
}
