//! Import of torchvision's RetinaNet detectors: weight files, architectures, preprocessing and thresholds.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use foveal_anchors::{AnchorConfig, Rounding};
use foveal_backbone::{BackboneKind, BackboneNorm, P6From};
use foveal_heads::{HeadConfig, HeadNorm};
use foveal_image::{Preprocess, ResizeMode};
use foveal_weights::{TensorMap, load_tensors, read_weight_file};

use crate::labels::{Labels, label_channels};
use crate::{Checkpoint, CheckpointMeta, DetectorError, ModelConfig, PostprocessConfig};

/// Maximum number of detections per image of torchvision's RetinaNet (`detections_per_img`).
const TORCHVISION_DETECTIONS: usize = 300;
/// Bias of the class layer; its length gives the number of class channels.
const CLASS_BIAS: &str = "head.classification_head.cls_logits.bias";
/// Prefixes that wrappers such as `DataParallel` put before every name.
const WRAPPERS: [&str; 2] = ["module.", "model."];

/// RetinaNet architecture of torchvision, named after its constructor in `torchvision.models.detection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorchvisionArch {
    /// `retinanet_resnet50_fpn`: P6 computed from P5, frozen batch norms, heads without norms; trained with the L1
    /// loss on box deltas.
    V1,
    /// `retinanet_resnet50_fpn_v2`: P6 computed from C5, batch norms, group norms in the heads; trained with the GIoU
    /// loss.
    V2,
}

impl TorchvisionArch {
    /// Returns the name of the constructor in torchvision, such as `retinanet_resnet50_fpn`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "retinanet_resnet50_fpn",
            Self::V2 => "retinanet_resnet50_fpn_v2",
        }
    }

    /// Returns the architecture settings with torchvision's anchors. `class_channels` is `None`; an import sets it from
    /// the weight file.
    pub fn model(self) -> ModelConfig {
        let (norm, p6_from, head_norm) = match self {
            Self::V1 => (BackboneNorm::FrozenBatch, P6From::P5, HeadNorm::None),
            Self::V2 => (BackboneNorm::Batch, P6From::C5, HeadNorm::Group),
        };
        ModelConfig {
            backbone: BackboneKind::ResNet50,
            norm,
            p6_from,
            head: HeadConfig { norm: head_norm, ..HeadConfig::default() },
            anchors: AnchorConfig { rounding: Rounding::Torchvision, ..AnchorConfig::default() },
            ..ModelConfig::default()
        }
    }
}

/// Returns torchvision's preprocessing: the shorter side is resized to 800 pixels, the longer to at most 1333, without
/// antialiasing (`GeneralizedRCNNTransform`).
pub fn torchvision_preprocess() -> Preprocess {
    Preprocess { resize: ResizeMode::Torchvision, ..Preprocess::default() }
}

/// Returns torchvision's post-processing settings: score threshold 0.05, NMS threshold 0.5, 1000 candidates per level
/// and 300 detections per image.
pub fn torchvision_post() -> PostprocessConfig {
    PostprocessConfig { max_detections: TORCHVISION_DETECTIONS, ..PostprocessConfig::default() }
}

/// Reads a torchvision weight file (`.pth` or `.safetensors`) into a network of the given architecture, usually
/// [`TorchvisionArch::model`]. Category names come from `labels`, or are chosen as in [`label_channels`]. Parameter
/// names of torchvision before 0.14 are accepted.
///
/// # Errors
/// [`DetectorError::Setting`] if `model` is invalid; [`DetectorError::Weights`] if the file cannot be read;
/// [`DetectorError::Import`] if its tensors do not fit the architecture; [`DetectorError::Labels`] if the labels do not
/// fit the number of class channels.
pub fn import_torchvision(
    path: &Path,
    model: &ModelConfig,
    labels: Option<&Labels>,
    device: &Device,
) -> Result<Checkpoint, DetectorError> {
    model.validate().map_err(|e| e.within("model"))?;
    let bad = |found: String| DetectorError::Import { path: path.to_owned(), found };
    let file = read_weight_file(path)?;
    let tensors = rename(strip_wrappers(file.tensors));
    if let Some(other) = file.others.iter().find(|o| !o.name.ends_with(".num_batches_tracked")) {
        return Err(bad(format!("tensor {} of type {}, which is not a floating-point type", other.name, other.dtype)));
    }
    let channels = class_channels(&tensors, model.anchors.anchors_per_location()).map_err(bad)?;
    let labelled = label_channels(channels, labels)?;
    let model = ModelConfig { class_channels: Some(labelled.channels), weights: None, ..model.clone() };
    let (network, report) = load_tensors(model.skeleton(labelled.categories.len(), device), &tensors);
    if !report.missing.is_empty() || !report.unused.is_empty() {
        return Err(bad(format!(
            "{} of the network's {} tensors{}{}{}",
            report.loaded.len(),
            report.loaded.len() + report.missing.len() + report.mismatched.len(),
            list("missing", &report.missing),
            list("not part of the network", &report.unused),
            other_version(&tensors, model.head.norm),
        )));
    }
    if let Some(m) = report.mismatched.first() {
        return Err(bad(format!("tensor {} of shape {:?} instead of {:?}", m.name, m.found, m.expected)));
    }
    if let Some((name, _)) =
        tensors.iter().find(|(name, t)| name.ends_with(".running_var") && t.values.iter().any(|v| *v < 0.0))
    {
        return Err(bad(format!("a negative variance in {name}")));
    }
    let meta = CheckpointMeta::new(model, labelled.categories, torchvision_preprocess(), torchvision_post());
    Ok(Checkpoint { meta, model: network.no_grad() })
}

/// The first of the names and the number of the others, after a heading; nothing if there are no names.
fn list(heading: &str, names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => format!("; {heading}: {one}"),
        [first, ..] => format!("; {heading}: {first} and {} more", names.len() - 1),
    }
}

/// Advice to try the other architecture, if the heads in the file are of that one.
fn other_version(tensors: &TensorMap, norm: HeadNorm) -> String {
    let grouped = tensors.contains_key("head.classification_head.conv.0.1.weight");
    match (grouped, norm) {
        (true, HeadNorm::None) => format!("; its heads have norms, so try --arch {}", TorchvisionArch::V2.name()),
        (false, HeadNorm::Group) => format!("; its heads have no norms, so try --arch {}", TorchvisionArch::V1.name()),
        _ => String::new(),
    }
}

/// The number of class channels per anchor.
fn class_channels(tensors: &TensorMap, anchors_per_location: usize) -> Result<usize, String> {
    let Some(bias) = tensors.get(CLASS_BIAS) else {
        let names: Vec<&str> = tensors.keys().take(4).map(String::as_str).collect();
        return Err(format!(
            "no tensor {CLASS_BIAS} among the {} in the file ({}, …)",
            tensors.len(),
            names.join(", ")
        ));
    };
    let outputs = bias.values.len();
    if bias.shape.len() != 1 || outputs < 2 * anchors_per_location || !outputs.is_multiple_of(anchors_per_location) {
        return Err(format!(
            "{CLASS_BIAS} of shape {:?}, whose length must be a multiple of the {anchors_per_location} anchors per \
             location, with two or more channels for each (the background and the classes)",
            bias.shape
        ));
    }
    Ok(outputs / anchors_per_location)
}

fn strip_wrappers(mut tensors: TensorMap) -> TensorMap {
    for prefix in WRAPPERS {
        if !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(prefix)) {
            tensors = tensors.into_iter().map(|(name, t)| (name[prefix.len()..].to_owned(), t)).collect();
        }
    }
    tensors
}

/// Replaces parameter names of torchvision before 0.14 by current ones: `conv.2.weight` of a head (whose index counted
/// the ReLUs) is now `conv.1.0.weight`, `inner_blocks.0.weight` of the pyramid is now `inner_blocks.0.0.weight`.
fn rename(tensors: TensorMap) -> TensorMap {
    tensors.into_iter().map(|(name, tensor)| (current_name(&name).unwrap_or(name), tensor)).collect()
}

/// The current name for a name of torchvision before 0.14; `None` if the name did not change.
fn current_name(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["head", head, "conv", index, leaf @ ("weight" | "bias")] => {
            let index: usize = index.parse().ok()?;
            index.is_multiple_of(2).then(|| format!("head.{head}.conv.{}.0.{leaf}", index / 2))
        }
        ["backbone", "fpn", blocks @ ("inner_blocks" | "layer_blocks"), index, leaf @ ("weight" | "bias")] => {
            Some(format!("backbone.fpn.{blocks}.{index}.0.{leaf}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_become_current_ones() {
        let renamed = |name: &str| current_name(name).unwrap_or_default();
        assert_eq!(renamed("head.regression_head.conv.6.bias"), "head.regression_head.conv.3.0.bias");
        assert_eq!(renamed("backbone.fpn.inner_blocks.2.weight"), "backbone.fpn.inner_blocks.2.0.weight");
        assert_eq!(renamed("head.regression_head.conv.3.0.bias"), "");
        assert_eq!(renamed("backbone.fpn.extra_blocks.p6.weight"), "");
    }
}
