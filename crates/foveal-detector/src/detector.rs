//! A checkpoint ready to be asked.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use foveal_coco::CategoryInfo;
use foveal_image::{Prepared, RgbImage, pad_batch};

use crate::{Checkpoint, Detection, DetectorError, ImageFrame, postprocess};

/// Detects objects in pictures with a checkpoint's own preprocessing and thresholds.
#[derive(Debug)]
pub struct Detector {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    device: Device,
}

/// A detection with its category.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction<'a> {
    /// Box, score and class.
    pub detection: Detection,
    /// The class's category.
    pub category: &'a CategoryInfo,
}

impl Detector {
    /// Loads a checkpoint onto a device.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn open(path: &Path, device: &Device) -> Result<Self, DetectorError> {
        Ok(Self::new(Checkpoint::load(path, device)?, device))
    }

    /// A detector from a loaded checkpoint; its thresholds and preprocessing may have been changed.
    pub fn new(checkpoint: Checkpoint, device: &Device) -> Self {
        Self { checkpoint, device: device.clone() }
    }

    /// Objects in one picture, best first, boxes in its own pixels.
    pub fn detect(&self, image: &RgbImage) -> Vec<Prediction<'_>> {
        let prepared = self.checkpoint.meta.preprocess.apply(image);
        self.detect_prepared(&[prepared]).pop().unwrap_or_default()
    }

    /// Objects in each of several prepared pictures, run as one batch.
    pub fn detect_prepared(&self, images: &[Prepared]) -> Vec<Vec<Prediction<'_>>> {
        let meta = &self.checkpoint.meta;
        let batch = pad_batch(images);
        let (height, width) = (batch.height, batch.width);
        let data = TensorData::new(batch.data, [batch.batch, 3, height, width]);
        let dense = self.checkpoint.model.forward(Tensor::from_data(data, &self.device));
        let anchors = meta.model.anchor_boxes(height, width, &dense.grids);
        let frames: Vec<ImageFrame> = images.iter().map(ImageFrame::from).collect();
        let named = |d: Detection| Prediction { category: &meta.categories[d.class as usize], detection: d };
        postprocess(&dense, &anchors, &frames, &meta.post, meta.model.class_channels.as_ref())
            .into_iter()
            .map(|found| found.into_iter().map(named).collect())
            .collect()
    }
}
