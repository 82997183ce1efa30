//! The checkpoint: one safetensors file with the weights, the architecture, the categories, the preprocessing and the
//! thresholds, so that inference needs no other file.

use std::collections::HashMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use foveal_base::write_atomically;
use foveal_coco::CategoryInfo;
use foveal_image::Preprocess;
use foveal_weights::{TensorMap, load_tensors, named_tensors, tensors_from_safetensors};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{DetectorError, ModelConfig, PostprocessConfig, RetinaNet};

/// Version of the checkpoint metadata that this crate writes. Checkpoints of a higher version are refused.
pub const FORMAT_VERSION: u32 = 1;
/// Key of the metadata entry in the safetensors header.
const KEY: &str = "foveal";

/// Metadata of a checkpoint, stored as JSON under the key `foveal` in the metadata of the safetensors header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointMeta {
    /// Version of the metadata format: [`FORMAT_VERSION`] of the program that wrote the file.
    pub format: u32,
    /// Architecture of the network (`[model]` of the training config).
    pub model: ModelConfig,
    /// Categories in class order: the category of class `k` is `categories[k]`.
    pub categories: Vec<CategoryInfo>,
    /// Resizing and normalisation that the network expects of its input images.
    pub preprocess: Preprocess,
    /// Score threshold, NMS threshold and limits with which predictions become detections.
    pub post: PostprocessConfig,
    /// Loss settings with which the weights were trained (`[loss]`, a serialised `foveal_criterion::LossConfig`), or
    /// `None` if they are unknown. Inference does not read them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<serde_json::Value>,
    /// SHA-256 of the names and bytes of all tensors in the order of their names, as 64 hexadecimal digits. It is
    /// computed when the checkpoint is saved and checked when it is loaded.
    pub checksum: String,
}

/// A trained network together with its metadata, as read from a checkpoint file.
#[derive(Debug)]
pub struct Checkpoint {
    /// Architecture, categories, preprocessing and thresholds.
    pub meta: CheckpointMeta,
    /// The network, on a device without autodiff.
    pub model: RetinaNet,
}

impl CheckpointMeta {
    /// Reads the metadata of a checkpoint without building the network. The tensors are read as well, to check them
    /// against the checksum and the architecture.
    ///
    /// # Errors
    /// [`DetectorError::Io`] if the file cannot be read; [`DetectorError::Checkpoint`] if it is not a checkpoint, is
    /// damaged, has a newer format, or contains invalid settings or a non-finite value.
    pub fn read(path: &Path) -> Result<Self, DetectorError> {
        Ok(Checkpoint::read(path)?.0)
    }

    /// Creates the metadata of a new checkpoint. The path in `model.weights` is removed, since it is meaningless on
    /// other machines; `loss` is `None` and `checksum` is empty until [`CheckpointMeta::save`] computes it.
    pub fn new(
        model: ModelConfig,
        categories: Vec<CategoryInfo>,
        preprocess: Preprocess,
        post: PostprocessConfig,
    ) -> Self {
        let model = ModelConfig { weights: None, ..model };
        Self { format: FORMAT_VERSION, model, categories, preprocess, post, loss: None, checksum: String::new() }
    }

    /// Writes a checkpoint with the current weights of `model` to `path`. The file is written under a temporary name,
    /// synced and then renamed, so that a crash leaves no partial file. Equal metadata and weights give equal bytes.
    ///
    /// # Errors
    /// [`DetectorError::Write`] if the file cannot be written; an existing file at `path` is then unchanged.
    pub fn save(&self, model: &RetinaNet, path: &Path) -> Result<(), DetectorError> {
        let tensors = named_tensors(model);
        let bytes: Vec<(&String, &[usize], Vec<u8>)> = tensors
            .iter()
            .map(|(name, t)| (name, t.shape.as_slice(), t.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let meta =
            Self { checksum: checksum(bytes.iter().map(|(n, _, b)| (n.as_str(), b.as_slice()))), ..self.clone() };
        let json = serde_json::to_string(&meta).expect("metadata can be written as JSON");
        let views = bytes.iter().map(|(name, shape, data)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), data).expect("four bytes per value");
            (name.as_str(), view)
        });
        let file = safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), json)])))
            .expect("names are unique and sizes match");
        Ok(write_atomically(path, &file)?)
    }
}

impl Checkpoint {
    /// Reads a checkpoint and builds its network on a device without autodiff.
    ///
    /// # Errors
    /// [`DetectorError::Io`] if the file cannot be read; [`DetectorError::Checkpoint`] if it is not a checkpoint, is
    /// damaged, has a newer format, contains invalid settings or a non-finite value, or if a tensor of the network is
    /// missing or has another shape.
    pub fn load(path: &Path, device: &Device) -> Result<Self, DetectorError> {
        let (meta, tensors) = Self::read(path)?;
        let bad = |found: String| DetectorError::Checkpoint { path: path.to_owned(), found };
        let model = fill(meta.model.skeleton(meta.categories.len(), device), &tensors).map_err(bad)?;
        Ok(Self { meta, model })
    }

    /// Reads metadata and tensors and checks both: checksum, settings, size of the network, finite values.
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
        // The checksum does not cover the configuration: an edited one could describe a network too large for memory.
        let tensors = tensors_from_safetensors(path, &bytes)?;
        let held: usize = tensors.values().map(|t| t.values.len()).sum();
        meta.model.fits_in(held, meta.categories.len()).map_err(bad)?;
        meta.model.validate().map_err(|e| bad(e.within("model").to_string()))?;
        let asked = meta.model.convolution_weights(meta.categories.len(), held as f64);
        if asked > held as f64 {
            return Err(bad(format!("a file of {held} values for a network of at least {asked} weights")));
        }
        if let Some((name, _)) = tensors.iter().find(|(_, t)| !t.values.iter().all(|v| v.is_finite())) {
            return Err(bad(format!("a non-finite value in tensor {name}")));
        }
        meta.preprocess.validate().map_err(|e| bad(e.within("preprocess").to_string()))?;
        let with_channel = meta.model.class_channels.as_ref().map_or(meta.categories.len(), |c| c.of_class.len());
        if with_channel != meta.categories.len() {
            return Err(bad(format!(
                "{} categories, but class channels for {with_channel} categories in model.class_channels",
                meta.categories.len()
            )));
        }
        Ok((meta, tensors))
    }
}

/// Loads the tensors of a checkpoint into a network of the same architecture; the error says which tensor does not fit.
fn fill(model: RetinaNet, tensors: &TensorMap) -> Result<RetinaNet, String> {
    let (model, report) = load_tensors(model, tensors);
    match (report.missing.first(), report.mismatched.first()) {
        (None, None) => Ok(model.no_grad()),
        (Some(name), _) => Err(format!("{} missing tensors, the first of which is {name}", report.missing.len())),
        (_, Some(m)) => Err(format!("tensor {} of shape {:?} instead of {:?}", m.name, m.found, m.expected)),
    }
}

fn read_meta(bytes: &[u8]) -> Result<CheckpointMeta, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| format!("an incomplete or foreign file ({e})"))?;
    let json = header
        .metadata()
        .as_ref()
        .and_then(|m| m.get(KEY))
        .ok_or("a safetensors file without that entry (plain weights; set model.weights to train from them)")?;
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let Version { format } = serde_json::from_str(json).map_err(|e| format!("unreadable metadata ({e})"))?;
    if format > FORMAT_VERSION {
        return Err(format!(
            "metadata of format {format}; this version reads formats up to {FORMAT_VERSION}, so install a newer foveal"
        ));
    }
    serde_json::from_str(json).map_err(|e| format!("unreadable metadata ({e})"))
}

/// Hexadecimal SHA-256 of names and bytes, each preceded by its length.
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
