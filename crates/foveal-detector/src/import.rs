//! torchvision's whole detectors: their weight files and their conventions.

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

/// Detections an image of torchvision's RetinaNet (`detections_per_img`).
const TORCHVISION_DETECTIONS: usize = 300;
/// The class layer's bias: its length tells the number of classes.
const CLASS_BIAS: &str = "head.classification_head.cls_logits.bias";
/// Prefixes that wrappers put before every name.
const WRAPPERS: [&str; 2] = ["module.", "model."];

/// A constructor of torchvision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorchvisionArch {
    /// `retinanet_resnet50_fpn`: P6 from P5, frozen norms, heads without norm; L1 on deltas.
    V1,
    /// `retinanet_resnet50_fpn_v2`: P6 from C5, batch norms, group norm in the heads; GIoU.
    V2,
}

impl TorchvisionArch {
    /// torchvision's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "retinanet_resnet50_fpn",
            Self::V2 => "retinanet_resnet50_fpn_v2",
        }
    }

    /// The architecture with torchvision's anchors; the class channels are still those of no file.
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

/// torchvision's preprocessing: 800 / 1333 pixels, no antialiasing.
pub fn torchvision_preprocess() -> Preprocess {
    Preprocess { resize: ResizeMode::Torchvision, ..Preprocess::default() }
}

/// torchvision's thresholds.
pub fn torchvision_post() -> PostprocessConfig {
    PostprocessConfig { max_detections: TORCHVISION_DETECTIONS, ..PostprocessConfig::default() }
}

/// Reads a file of torchvision weights into a network of the given architecture, which is torchvision's own or one
/// of other widths.
///
/// # Errors
/// When the file cannot be read, holds another network or other shapes, or the labels do not fit it.
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
        return Err(bad(format!("tensor {} of type {}, which is no floating-point type", other.name, other.dtype)));
    }
    let channels = class_channels(&tensors, model.anchors.anchors_per_location()).map_err(bad)?;
    let labelled = label_channels(channels, labels)?;
    let model = ModelConfig { class_channels: Some(labelled.channels), weights: None, ..model.clone() };
    let (network, report) = load_tensors(model.skeleton(labelled.categories.len(), device), &tensors);
    if !report.missing.is_empty() || !report.unused.is_empty() {
        return Err(bad(format!(
            "{} of its {} tensors{}{}{}",
            report.loaded.len(),
            report.loaded.len() + report.missing.len() + report.mismatched.len(),
            few("without", &report.missing),
            few("but besides", &report.unused),
            other_version(&tensors, model.head.norm),
        )));
    }
    if let Some(m) = report.mismatched.first() {
        return Err(bad(format!("tensor {} of shape {:?} in place of {:?}", m.name, m.found, m.expected)));
    }
    if let Some((name, _)) =
        tensors.iter().find(|(name, t)| name.ends_with(".running_var") && t.values.iter().any(|v| *v < 0.0))
    {
        return Err(bad(format!("a negative variance in {name}")));
    }
    let meta = CheckpointMeta::new(model, labelled.categories, torchvision_preprocess(), torchvision_post());
    Ok(Checkpoint { meta, model: network.no_grad() })
}

fn few(word: &str, names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => format!(", {word} {one}"),
        [first, ..] => format!(", {word} {first} and {} more", names.len() - 1),
    }
}

/// What to try when the file is the other version's.
fn other_version(tensors: &TensorMap, norm: HeadNorm) -> String {
    let grouped = tensors.contains_key("head.classification_head.conv.0.1.weight");
    match (grouped, norm) {
        (true, HeadNorm::None) => format!("; its heads have norms: --arch {}", TorchvisionArch::V2.name()),
        (false, HeadNorm::Group) => format!("; its heads have no norms: --arch {}", TorchvisionArch::V1.name()),
        _ => String::new(),
    }
}

/// The number of class channels an anchor.
fn class_channels(tensors: &TensorMap, anchors_per_location: usize) -> Result<usize, String> {
    let Some(bias) = tensors.get(CLASS_BIAS) else {
        let names: Vec<&str> = tensors.keys().take(4).map(String::as_str).collect();
        return Err(format!("no {CLASS_BIAS} among its {} tensors ({}, …)", tensors.len(), names.join(", ")));
    };
    let outputs = bias.values.len();
    if bias.shape.len() != 1 || outputs < 2 * anchors_per_location || !outputs.is_multiple_of(anchors_per_location) {
        return Err(format!(
            "{CLASS_BIAS} of shape {:?}, no multiple of {anchors_per_location} anchors with a background and a class at least",
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

/// Names of torchvision before 0.14 to today's: `conv.2.weight` of a head is `conv.1.0.weight` (the ReLUs counted
/// once), `inner_blocks.0.weight` of the pyramid `inner_blocks.0.0.weight`.
fn rename(tensors: TensorMap) -> TensorMap {
    tensors.into_iter().map(|(name, tensor)| (today(&name).unwrap_or(name), tensor)).collect()
}

fn today(name: &str) -> Option<String> {
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
    fn old_names_become_todays() {
        let renamed = |name: &str| today(name).unwrap_or_default();
        assert_eq!(renamed("head.regression_head.conv.6.bias"), "head.regression_head.conv.3.0.bias");
        assert_eq!(renamed("backbone.fpn.inner_blocks.2.weight"), "backbone.fpn.inner_blocks.2.0.weight");
        assert_eq!(renamed("head.regression_head.conv.3.0.bias"), "");
        assert_eq!(renamed("backbone.fpn.extra_blocks.p6.weight"), "");
    }
}
