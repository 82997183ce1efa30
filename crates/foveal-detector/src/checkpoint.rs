//! The checkpoint: one safetensors file with the weights and all that inference needs besides.

use std::collections::HashMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use foveal_coco::{CategoryInfo, write_atomically};
use foveal_image::Preprocess;
use foveal_weights::{TensorMap, load_tensors, named_tensors, tensors_from_safetensors};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{DetectorError, ModelConfig, PostConfig, RetinaNet};

/// The version of the metadata that this code writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// The metadata key.
const KEY: &str = "foveal";

/// The JSON under the metadata key `foveal`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointMeta {
    /// [`FORMAT_VERSION`] of the writer.
    pub format: u32,
    /// The architecture.
    pub model: ModelConfig,
    /// Categories in class order.
    pub categories: Vec<CategoryInfo>,
    /// How images were prepared.
    pub preprocess: Preprocess,
    /// How detections are made.
    pub post: PostConfig,
    /// The `[loss]` that belongs to the weights, as `foveal-criterion` writes it; inference has no use for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<serde_json::Value>,
    /// SHA-256 over the tensors' names and bytes, in the order of the names; hexadecimal.
    pub checksum: String,
}

/// A network and what it needs to be used.
#[derive(Debug)]
pub struct Checkpoint {
    /// Everything but the weights.
    pub meta: CheckpointMeta,
    /// The network, without autodiff.
    pub model: RetinaNet,
}

impl CheckpointMeta {
    /// Reads the metadata of a checkpoint; the whole file is checked.
    ///
    /// # Errors
    /// Those of [`Checkpoint::load`].
    pub fn read(path: &Path) -> Result<Self, DetectorError> {
        Ok(Checkpoint::read(path)?.0)
    }

    /// Metadata to save; the checksum is computed then. Paths of the machine that trained are left out.
    pub fn new(model: ModelConfig, categories: Vec<CategoryInfo>, preprocess: Preprocess, post: PostConfig) -> Self {
        let model = ModelConfig { weights: None, ..model };
        Self { format: FORMAT_VERSION, model, categories, preprocess, post, loss: None, checksum: String::new() }
    }

    /// Writes a checkpoint of `model`'s present weights: to a temporary name, synced, renamed.
    /// Same content, same bytes.
    ///
    /// # Errors
    /// When the file cannot be written; what stood there before is then untouched.
    pub fn save(&self, model: &RetinaNet, path: &Path) -> Result<(), DetectorError> {
        let tensors = named_tensors(model);
        let bytes: Vec<(&String, &[usize], Vec<u8>)> = tensors
            .iter()
            .map(|(name, t)| (name, t.shape.as_slice(), t.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let meta =
            Self { checksum: checksum(bytes.iter().map(|(n, _, b)| (n.as_str(), b.as_slice()))), ..self.clone() };
        let json = serde_json::to_string(&meta).expect("plain data is JSON");
        let views = bytes.iter().map(|(name, shape, data)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), data).expect("four bytes a value");
            (name.as_str(), view)
        });
        let file = safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), json)])))
            .expect("names are unique and sizes right");
        Ok(write_atomically(path, |out| out.write_all(&file))?)
    }
}

impl Checkpoint {
    /// Reads a checkpoint onto a device without autodiff.
    ///
    /// # Errors
    /// When the file is missing, damaged, foreign, of a newer format, or lacks a tensor.
    pub fn load(path: &Path, device: &Device) -> Result<Self, DetectorError> {
        let (meta, tensors) = Self::read(path)?;
        let bad = |found: String| DetectorError::Checkpoint { path: path.to_owned(), found };
        let model = fill(meta.model.skeleton(meta.categories.len(), device), &tensors).map_err(bad)?;
        Ok(Self { meta, model })
    }

    /// Metadata and tensors, checked against the checksum.
    pub(crate) fn read(path: &Path) -> Result<(CheckpointMeta, TensorMap), DetectorError> {
        let bytes = std::fs::read(path).map_err(|source| DetectorError::Io { path: path.to_owned(), source })?;
        let bad = |found: String| DetectorError::Checkpoint { path: path.to_owned(), found };
        let meta = read_meta(&bytes).map_err(bad)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(format!("a damaged safetensors file ({e})")))?;
        let mut raw: Vec<(&str, &[u8])> = file.iter().map(|(n, v)| (n, v.data())).collect();
        raw.sort_unstable_by_key(|(name, _)| *name);
        if checksum(raw.into_iter()) != meta.checksum {
            return Err(bad("tensor data that does not match its checksum: the file is damaged or was edited".into()));
        }
        meta.model.validate().map_err(|e| bad(e.to_string()))?;
        // The configuration has no checksum: it is not to ask for a larger network than the file holds.
        let tensors = tensors_from_safetensors(path, &bytes)?;
        let held: usize = tensors.values().map(|t| t.values.len()).sum();
        let asked = meta.model.convolution_weights(meta.categories.len(), held as f64);
        if asked > held as f64 {
            return Err(bad(format!("a configuration of {asked} weights in a file of {held}")));
        }
        if let Some((name, _)) = tensors.iter().find(|(_, t)| !t.values.iter().all(|v| v.is_finite())) {
            return Err(bad(format!("a value in {name} that is not finite")));
        }
        meta.preprocess.check().map_err(|e| bad(e.to_string()))?;
        let with_channel = meta.model.class_channels.as_ref().map_or(meta.categories.len(), |c| c.of_class.len());
        if with_channel != meta.categories.len() {
            return Err(bad(format!("{} categories, {with_channel} of them with a channel", meta.categories.len())));
        }
        Ok((meta, tensors))
    }
}

/// Puts a checkpoint's tensors into a network of the same architecture.
fn fill(model: RetinaNet, tensors: &TensorMap) -> Result<RetinaNet, String> {
    let (model, report) = load_tensors(model, tensors);
    match (report.missing.first(), report.mismatched.first()) {
        (None, None) => Ok(model.no_grad()),
        (Some(name), _) => Err(format!("{} missing tensors, {name} the first", report.missing.len())),
        (_, Some(m)) => Err(format!("tensor {} of shape {:?}, expected {:?}", m.name, m.found, m.expected)),
    }
}

fn read_meta(bytes: &[u8]) -> Result<CheckpointMeta, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| format!("no whole safetensors file ({e})"))?;
    let json = header
        .metadata()
        .as_ref()
        .and_then(|m| m.get(KEY))
        .ok_or("a safetensors file without that entry: plain weights, to be named in model.weights")?;
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let Version { format } = serde_json::from_str(json).map_err(|e| format!("unreadable metadata ({e})"))?;
    if format > FORMAT_VERSION {
        return Err(format!("format {format}; this version reads up to {FORMAT_VERSION}: a newer foveal is needed"));
    }
    serde_json::from_str(json).map_err(|e| format!("unreadable metadata ({e})"))
}

fn checksum<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in tensors {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
