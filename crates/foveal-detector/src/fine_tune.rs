//! Fine-tuning: a network whose initial weights come from a foveal checkpoint, possibly with other classes.

use std::io::Read;
use std::path::Path;

use burn::tensor::Device;
use foveal_coco::CategoryInfo;
use foveal_weights::{TensorMap, load_tensors};

use crate::{BuiltModel, Checkpoint, CheckpointMeta, DetectorError, ModelConfig};

/// Prefix of the class layer's tensors. The layer gets new weights if the classes differ.
const CLASS_LAYER: &str = "head.classification_head.cls_logits.";
/// Prefix of the residual network's tensors in a detector.
pub(crate) const BODY: &str = "backbone.body.";
/// Largest header in bytes that the safetensors library accepts.
const LARGEST_HEADER: u64 = 100_000_000;

/// Whether the header of the file is that of a foveal checkpoint. Returns false for unreadable files: reading them as
/// weights reports the error.
pub(crate) fn is_checkpoint(path: &Path) -> bool {
    let header = || -> Option<Vec<u8>> {
        let mut file = std::fs::File::open(path).ok()?;
        let mut length = [0; 8];
        file.read_exact(&mut length).ok()?;
        let length = u64::from_le_bytes(length);
        if length > LARGEST_HEADER {
            return None;
        }
        let mut header = Vec::new();
        file.take(length).read_to_end(&mut header).ok()?;
        (header.len() as u64 == length).then_some(header)
    };
    header()
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
        .is_some_and(|json| json["__metadata__"]["foveal"].is_string())
}

/// Builds the network of `config` with all tensors of the checkpoint at `path` that fit. The class layer and the class
/// channels are taken only if `categories` are those of the checkpoint; else the class layer gets new weights.
pub(crate) fn start_from(
    config: &ModelConfig,
    path: &Path,
    classes: usize,
    categories: Option<&[CategoryInfo]>,
    seed: u64,
    device: &Device,
) -> Result<BuiltModel, DetectorError> {
    let (meta, mut tensors) = Checkpoint::read(path)?;
    let mut config = config.clone();
    let mut withheld = TensorMap::new();
    if categories.is_some_and(|c| c == meta.categories) {
        config.class_channels = meta.model.class_channels.clone();
    } else {
        config.class_channels = None;
        withheld = tensors.extract_if(.., |name, _| name.starts_with(CLASS_LAYER)).collect();
    }
    let (mut model, mut report) = load_tensors(config.seeded(classes, seed, device), &tensors);
    report.unused.extend(withheld.into_keys());
    report.unused.sort();
    if report.loaded.is_empty() {
        let found = "no tensor whose name and shape fit the network".into();
        return Err(DetectorError::Import { path: path.to_owned(), found });
    }
    if config.norm.has_fixed_statistics() {
        let without = report.missing.iter().filter_map(|n| n.strip_prefix(BODY)?.strip_suffix(".running_var"));
        config.live_norms = without.map(str::to_owned).collect();
        model.backbone.body = model.backbone.body.train_norms(&config.live_norms);
    }
    model.backbone.body = model.backbone.body.freeze_stages(config.freeze_stages);
    let differences = differences(&config, &meta);
    let new_tensors = report.missing.iter().chain(report.mismatched.iter().map(|m| &m.name)).cloned().collect();
    Ok(BuiltModel { model, config, report: Some(report), new_tensors, differences })
}

/// Describes the settings that differ from the checkpoint's and change the features without changing tensor shapes.
fn differences(config: &ModelConfig, meta: &CheckpointMeta) -> Vec<String> {
    let (here, there) = (config, &meta.model);
    let mut found = Vec::new();
    let mut compare = |key: &str, here: String, there: String| {
        if here != there {
            found.push(format!("model.{key} is {here}, but {there} in the checkpoint"));
        }
    };
    let strides = |m: &ModelConfig| format!("{:?}", m.weights_convention).to_lowercase();
    if here.weights_convention.stride_in_1x1() != there.weights_convention.stride_in_1x1() {
        compare("weights_convention", strides(here), strides(there));
    }
    compare("norm", format!("{:?}", here.norm), format!("{:?}", there.norm));
    compare("norm_eps", format!("{:?}", here.norm_eps), format!("{:?}", there.norm_eps));
    compare("p6_from", format!("{:?}", here.p6_from), format!("{:?}", there.p6_from));
    compare("head.norm", format!("{:?}", here.head.norm), format!("{:?}", there.head.norm));
    compare("head.groups", format!("{:?}", here.head.groups), format!("{:?}", there.head.groups));
    compare("head.level_scales", here.head.level_scales.to_string(), there.head.level_scales.to_string());
    compare("anchors", format!("{:?}", here.anchors), format!("{:?}", there.anchors));
    found
}
