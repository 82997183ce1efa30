//! A network that starts from a foveal checkpoint, whose classes may be others.

use std::io::Read;
use std::path::Path;

use burn::tensor::Device;
use foveal_backbone::BackboneNorm;
use foveal_coco::CategoryInfo;
use foveal_weights::{TensorMap, load_tensors};

use crate::{BuiltModel, Checkpoint, CheckpointMeta, DetectorError, ModelConfig};

/// The layer that is rebuilt for other classes.
const CLASS_LAYER: &str = "head.classification_head.cls_logits.";
/// Where the residual network is in a detector.
pub(crate) const BODY: &str = "backbone.body.";
/// safetensors' own limit of its header.
const LARGEST_HEADER: u64 = 100_000_000;

/// Whether a file is a foveal checkpoint, by its header; no other is an error here.
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

/// A network of `config` with all tensors of a checkpoint that fit. The class layer is among them only where the
/// categories are the checkpoint's own, and then so are its class channels; else it is new, with the prior's bias.
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
        return Err(DetectorError::Import { path: path.to_owned(), found: "no tensor that fits the network".into() });
    }
    if config.norm == BackboneNorm::FrozenBatch {
        let without = report.missing.iter().filter_map(|n| n.strip_prefix(BODY)?.strip_suffix(".running_var"));
        config.live_norms = without.map(str::to_owned).collect();
        model.backbone.body = model.backbone.body.train_norms(&config.live_norms);
    }
    model.backbone.body = model.backbone.body.freeze_stages(config.freeze_stages);
    let differences = differences(&config, &meta);
    let new_tensors = report.missing.iter().chain(report.mismatched.iter().map(|m| &m.name)).cloned().collect();
    Ok(BuiltModel { model, config, report: Some(report), new_tensors, differences })
}

/// What no shape tells and yet makes other features of the same weights.
fn differences(config: &ModelConfig, meta: &CheckpointMeta) -> Vec<String> {
    let (here, there) = (config, &meta.model);
    let mut found = Vec::new();
    let mut compare = |key: &str, here: String, there: String| {
        if here != there {
            found.push(format!("model.{key} is {here}, in the checkpoint {there}"));
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
    compare("anchors", format!("{:?}", here.anchors), format!("{:?}", there.anchors));
    found
}
