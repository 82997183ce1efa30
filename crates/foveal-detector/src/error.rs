//! What can go wrong with models and checkpoints.

use std::path::PathBuf;

use foveal_base::{SettingError, WriteError};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// A weight file could not be used.
    #[error(transparent)]
    Weights(#[from] foveal_weights::WeightsError),
    /// An image could not be read.
    #[error(transparent)]
    Image(#[from] foveal_image::ImageError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Categories that make no label map.
    #[error(transparent)]
    Coco(#[from] foveal_coco::CocoError),
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is no foveal checkpoint, or a damaged one.
    #[error("{}: expected a foveal checkpoint (.safetensors with a `foveal` entry), found {found}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// A weight file is not the detector that it was said to be.
    #[error("{}: expected a torchvision RetinaNet of that architecture, found {found}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// An image without a pixel.
    #[error("expected an image with pixels, found {width} x {height}")]
    EmptyImage {
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
    },
    /// An export is not what it should be.
    #[error("{}: expected the checkpoint's weights, found {found}", path.display())]
    Verify {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// A network without a constructor in torchvision.
    #[error(
        "expected a network of retinanet_resnet50_fpn (P6 from P5, plain heads) or retinanet_resnet50_fpn_v2 (P6 from \
         C5, group norm in the heads) with 9 anchors a cell and batch norms, found {found}; --format safetensors takes \
         any network"
    )]
    NoConstructor {
        /// The network.
        found: String,
    },
    /// A file of category names does not fit.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Labels {
        /// The file.
        path: PathBuf,
        /// What would fit.
        expected: String,
        /// What was found.
        found: String,
    },
    /// `frozen_batch` without weights would freeze norms that do nothing.
    #[error(
        "model.norm = \"frozen_batch\" needs pretrained statistics, and model.weights names no file: \
         set model.weights, or take model.norm = \"group\""
    )]
    FrozenWithoutWeights,
    /// A configuration value that no network or preprocessing has.
    #[error(transparent)]
    Setting(#[from] SettingError),
}
