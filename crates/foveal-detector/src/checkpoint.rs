//! The checkpoint: one safetensors file with the weights, the architecture, the categories, the preprocessing and the
//! thresholds, so that inference needs no other file.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use foveal_base::{excerpt, text::read_data, write_atomically};
use foveal_coco::CategoryInfo;
use foveal_image::Preprocess;
use foveal_weights::{TensorMap, check_seal, load_tensors, named_tensors, seal, sealed_text, tensors_from_safetensors};
use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{DetectorError, ModelConfig, PostprocessConfig, RetinaNet};

/// Version of the checkpoint metadata that this crate writes. Checkpoints of a higher version are refused.
pub const FORMAT_VERSION: u32 = 2;
/// Version whose checksum covers the tensors alone, not the metadata. Such checkpoints are read.
const UNSEALED_VERSION: u32 = 1;
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
    /// Score threshold of each class in class order, in 0..1: a detection of the class must have a higher score. They
    /// hold in addition to `post.score_threshold`. Empty if only that holds. `foveal eval --thresholds` chooses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_thresholds: Vec<f32>,
    /// Loss settings with which the weights were trained (`[loss]`, a serialised `foveal_criterion::LossConfig`), or
    /// `None` if they are unknown. Inference does not read them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<serde_json::Value>,
    /// SHA-256 of the metadata before it and of the names, shapes and bytes of all tensors, as 64 hexadecimal digits.
    /// It is computed when the checkpoint is saved and checked when it is loaded. In files of format 1 it covers the
    /// names and bytes of the tensors alone.
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
        let (class_thresholds, loss, checksum) = (Vec::new(), None, String::new());
        Self { format: FORMAT_VERSION, model, categories, preprocess, post, class_thresholds, loss, checksum }
    }

    /// Whether a detection of a class with this index reaches the threshold of the class, if there is one.
    ///
    /// # Panics
    /// If there are thresholds, but none for the class.
    pub fn reaches_class_threshold(&self, class: u32, score: f32) -> bool {
        self.class_thresholds.is_empty() || score > self.class_thresholds[class as usize]
    }

    fn check_class_thresholds(&self) -> Result<(), String> {
        let (found, expected) = (self.class_thresholds.len(), self.categories.len());
        if found != 0 && found != expected {
            return Err(format!("{found} values in class_thresholds for {expected} categories"));
        }
        match self.class_thresholds.iter().find(|threshold| !(0.0..=1.0).contains(*threshold)) {
            Some(threshold) => Err(format!("{threshold} in class_thresholds, which must be from 0 to 1")),
            None => Ok(()),
        }
    }

    /// Writes a checkpoint with the current weights of `model` to `path`. The file is written under a temporary name,
    /// synced and then renamed, so that a crash leaves no partial file. Equal metadata and weights give equal bytes.
    ///
    /// # Errors
    /// [`DetectorError::NotFinite`] if a weight is NaN or infinite; [`DetectorError::Write`] if the file cannot be
    /// written. An existing file at `path` is then unchanged.
    pub fn save(&self, model: &RetinaNet, path: &Path) -> Result<(), DetectorError> {
        let tensors = named_tensors(model);
        if let Some(name) = not_finite(&tensors) {
            return Err(DetectorError::NotFinite { path: path.to_owned(), name: name.to_owned() });
        }
        let meta = Self { format: FORMAT_VERSION, checksum: String::new(), ..self.clone() };
        let file = seal(KEY, &meta, tensors.iter().map(|(name, tensor)| (name.clone(), tensor)));
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
        let bytes = read_data(path).map_err(|source| DetectorError::Io { path: path.to_owned(), source })?;
        let bad = |found: String| DetectorError::Checkpoint { path: path.to_owned(), found };
        let meta = read_meta(&bytes).map_err(bad)?;
        // A checksum that fits does not mean that the content is right: an edited configuration could describe a
        // network too large for memory.
        let tensors = tensors_from_safetensors(path, &bytes)?;
        let held: usize = tensors.values().map(|t| t.values.len()).sum();
        meta.model.fits_in(held, meta.categories.len()).map_err(bad)?;
        meta.model.validate().map_err(|e| bad(e.within("model").to_string()))?;
        let asked = meta.model.convolution_weights(meta.categories.len(), held as f64);
        if asked > held as f64 {
            return Err(bad(format!("a file of {held} values for a network of at least {asked} weights")));
        }
        if let Some(name) = not_finite(&tensors) {
            return Err(bad(format!("a non-finite value in tensor {name}")));
        }
        meta.preprocess.validate().map_err(|e| bad(e.within("preprocess").to_string()))?;
        meta.check_class_thresholds().map_err(bad)?;
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

/// The name of the first tensor with a value that is NaN or infinite.
fn not_finite(tensors: &TensorMap) -> Option<&str> {
    let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
    tensors.iter().find(|(_, tensor)| !finite(&tensor.values)).map(|(name, _)| name.as_str())
}

/// Reads the metadata and checks the checksum.
fn read_meta(bytes: &[u8]) -> Result<CheckpointMeta, String> {
    let text = sealed_text(KEY, bytes)?
        .ok_or("a safetensors file without that entry (plain weights; set model.weights to train from them)")?;
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let unreadable = |e: serde_json::Error| format!("unreadable metadata ({})", excerpt(e));
    let Version { format } = serde_json::from_str(&text).map_err(unreadable)?;
    if format > FORMAT_VERSION {
        return Err(format!(
            "metadata of format {format}; this version reads formats up to {FORMAT_VERSION}, so install a newer foveal"
        ));
    }
    if format > UNSEALED_VERSION {
        check_seal(KEY, &text, bytes)?;
        return serde_json::from_str(&text).map_err(unreadable);
    }
    let meta: CheckpointMeta = serde_json::from_str(&text).map_err(unreadable)?;
    if tensor_checksum(bytes)? != meta.checksum {
        return Err("tensor data that does not match its checksum: the file is damaged or was edited".to_owned());
    }
    Ok(meta)
}

/// Checksum of files of format 1: hexadecimal SHA-256 of the names and bytes of all tensors in the order of their
/// names, each preceded by its length.
fn tensor_checksum(bytes: &[u8]) -> Result<String, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("a damaged safetensors file ({e})"))?;
    let mut tensors: Vec<_> = file.iter().collect();
    tensors.sort_unstable_by_key(|(name, _)| *name);
    let mut hash = Sha256::new();
    for (name, view) in tensors {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((view.data().len() as u64).to_le_bytes());
        hash.update(view.data());
    }
    Ok(format!("{:x}", hash.finalize()))
}
