//! Errors of building, loading, importing and exporting models.

use std::path::PathBuf;

use foveal_base::{SettingError, WriteError};

/// The network's output for some images of a batch is NaN or infinite, so that their detections are unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the network's output (logits or deltas) is NaN or infinite, so the detections are unknown: the weights are damaged, \
     or their training diverged"
)]
pub struct NonFiniteOutput {
    /// Indices in the batch of the images whose output is not finite, in ascending order.
    pub images: Vec<usize>,
}

/// Error of building, loading, importing or exporting a model.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// A weight file could not be read, or holds the weights of another network.
    #[error(transparent)]
    Weights(#[from] foveal_weights::WeightsError),
    /// An image file could not be read or decoded.
    #[error(transparent)]
    Image(#[from] foveal_image::ImageError),
    /// An output file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The categories are not a valid label map, for example because an id occurs twice.
    #[error(transparent)]
    Coco(#[from] foveal_coco::CocoError),
    /// An input file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Path of the input file.
        path: PathBuf,
        /// Error reported by the operating system.
        source: std::io::Error,
    },
    /// The file is not a foveal checkpoint, is damaged, or has a newer format.
    #[error(
        "{}: expected a foveal checkpoint (a .safetensors file with a `foveal` metadata entry), found {found}",
        path.display()
    )]
    Checkpoint {
        /// Path of the file that was read as a checkpoint.
        path: PathBuf,
        /// What the file contains instead, as the end of a sentence: `a damaged safetensors file (...)`.
        found: String,
    },
    /// The weights of a network cannot be saved, because one of them is NaN or infinite.
    #[error(
        "{}: not written, because the tensor {name} has a value that is NaN or infinite; an existing file is unchanged",
        path.display()
    )]
    NotFinite {
        /// Path of the file that was to be written.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
    },
    /// The tensors of a weight file do not fit the requested architecture.
    #[error("{}: expected weights that fit the requested RetinaNet architecture, found {found}", path.display())]
    Import {
        /// Path of the weight file.
        path: PathBuf,
        /// What the file contains instead, as the end of a sentence: `a negative variance in ...`.
        found: String,
    },
    /// The image has a width or height of 0 pixels.
    #[error("expected an image with at least one pixel, found {width} x {height} pixels")]
    EmptyImage {
        /// Width of the image in pixels.
        width: u32,
        /// Height of the image in pixels.
        height: u32,
    },
    /// An exported file does not contain the checkpoint's weights, or a weight cannot be exported as a 16-bit number.
    #[error("{}: expected the checkpoint's weights, found {found}", path.display())]
    Verify {
        /// Path of the exported file.
        path: PathBuf,
        /// What the file contains instead, as the end of a sentence: `tensor ... of type ...`.
        found: String,
    },
    /// torchvision has no constructor for the checkpoint's architecture.
    #[error(
        "expected the architecture of torchvision's retinanet_resnet50_fpn (P6 from P5, heads without norms) or \
         retinanet_resnet50_fpn_v2 (P6 from C5, group norms in the heads), with batch norms in the backbone and 9 \
         anchors per location, found {found}; use --format safetensors to export other networks"
    )]
    NoConstructor {
        /// The architecture of the checkpoint, as the end of a sentence.
        found: String,
    },
    /// A file of category names is malformed or does not fit the number of class channels.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Labels {
        /// Path of the file with category names (`--labels`).
        path: PathBuf,
        /// What the file or line should contain.
        expected: String,
        /// What the file or line contains instead.
        found: String,
    },
    /// `model.norm` is `frozen_batch` or `frozen_statistics` but no pretrained weights are given, so there are no
    /// statistics to freeze.
    #[error(
        "model.norm = \"{norm}\" needs pretrained statistics, but model.weights is not set: \
         set model.weights to a file with pretrained weights, or set model.norm = \"group\""
    )]
    FrozenWithoutWeights {
        /// The value of `model.norm`.
        norm: &'static str,
    },
    /// The network's output for an image is NaN or infinite.
    #[error(transparent)]
    NonFinite(#[from] NonFiniteOutput),
    /// A setting of the model or the preprocessing is outside its valid range.
    #[error(transparent)]
    Setting(#[from] SettingError),
}
