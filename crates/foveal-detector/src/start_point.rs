//! What a weight file offers as the start of a training.

use std::path::Path;

use foveal_weights::{FoundBackbone, WeightsConvention, find_backbone};

use crate::fine_tune::is_checkpoint;
use crate::{CheckpointMeta, DetectorError};

/// The content of a weight file for `model.weights`.
#[derive(Clone, Debug)]
pub enum StartPoint {
    /// A checkpoint of foveal: a whole detector, with its architecture, categories and preprocessing.
    Checkpoint(Box<CheckpointMeta>),
    /// The weights of a backbone, as a whole or in part, such as those of a classifier trained on ImageNet.
    Backbone(FoundBackbone),
}

impl StartPoint {
    /// Finds out what a weight file (`.pth`, `.safetensors`) contains. `convention` is `model.weights_convention`.
    ///
    /// # Errors
    /// [`DetectorError::Io`] or [`DetectorError::Checkpoint`] if the file is a damaged checkpoint or cannot be read;
    /// [`DetectorError::Weights`] if it contains neither a checkpoint nor a backbone that foveal has, or if it is
    /// ambiguous.
    pub fn of(path: &Path, convention: WeightsConvention) -> Result<Self, DetectorError> {
        if is_checkpoint(path) {
            return Ok(Self::Checkpoint(Box::new(CheckpointMeta::read(path)?)));
        }
        Ok(Self::Backbone(find_backbone(path, convention)?))
    }
}
