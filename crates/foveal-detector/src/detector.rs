//! A checkpoint's network with its own preprocessing and thresholds: images in, named detections out.

use std::path::Path;

use burn::tensor::Device;
use foveal_coco::CategoryInfo;
use foveal_image::{ImageFrame, Prepared, RgbImage, pad_batch};

use crate::{Checkpoint, Detection, DetectorError, image_tensor, predict};

/// Detects objects in images with a checkpoint's own preprocessing and thresholds.
///
/// ```
/// use burn::tensor::Device;
/// use foveal_detector::Detector;
/// use foveal_image::load_rgb;
///
/// # use foveal_coco::CategoryInfo;
/// # use foveal_detector::{CheckpointMeta, ModelConfig, PostprocessConfig};
/// # use foveal_image::{Preprocess, RgbImage};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # // What a training run leaves behind: a checkpoint, here of a small network; and a photo.
/// # let dir = tempfile::tempdir()?;
/// # let (path, photo) = (dir.path().join("best.safetensors"), dir.path().join("photo.png"));
/// # let model = ModelConfig { base_width: 8, fpn_channels: 32, ..ModelConfig::default() };
/// # let names = ["cat", "dog"].iter().zip(1..).map(|(name, id)| CategoryInfo { id, name: name.to_string() });
/// # let preprocess = Preprocess { min_size: 64, max_size: 96, ..Preprocess::default() };
/// # let post = PostprocessConfig { score_threshold: 0.001, ..PostprocessConfig::default() };
/// # let network = model.build(2, 1, &Device::flex())?.model;
/// # CheckpointMeta::new(model, names.collect(), preprocess, post).save(&network, &path)?;
/// # RgbImage::from_pixel(120, 90, [200, 120, 40].into()).save(&photo)?;
/// let device = Device::flex();
/// let image = load_rgb(&photo)?;
/// let found = Detector::open(&path, &device)?.detect(&image)?;
/// for object in &found {
///     println!("{} {:.2} {:?}", object.category.name, object.detection.score, object.detection.bbox);
/// }
/// # assert!(!found.is_empty() && found.iter().all(|o| o.detection.bbox.x2 <= 120.0 && o.detection.score > 0.001));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Detector {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    device: Device,
}

/// A detection with its category.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Box, score and class.
    pub detection: Detection,
    /// The class's category.
    pub category: CategoryInfo,
}

impl Detector {
    /// Loads a checkpoint onto a device.
    ///
    /// # Errors
    /// When the file cannot be read or is no checkpoint of this version.
    pub fn open(path: &Path, device: &Device) -> Result<Self, DetectorError> {
        Ok(Self::new(Checkpoint::load(path, device)?, device))
    }

    /// A detector from a loaded checkpoint; its thresholds and preprocessing may have been changed.
    pub fn new(checkpoint: Checkpoint, device: &Device) -> Self {
        Self { checkpoint, device: device.clone() }
    }

    /// Objects in one image, best first, boxes in its own pixels.
    ///
    /// # Errors
    /// When the image has no pixels, or a preprocessing that was set by hand cannot work.
    pub fn detect(&self, image: &RgbImage) -> Result<Vec<Prediction>, DetectorError> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(DetectorError::EmptyImage { width, height });
        }
        self.checkpoint.meta.preprocess.validate()?;
        let prepared = self.checkpoint.meta.preprocess.apply(image);
        Ok(self.detect_prepared(&[prepared]).pop().unwrap_or_default())
    }

    /// Objects in each of several prepared images, run as one batch.
    pub fn detect_prepared(&self, images: &[Prepared]) -> Vec<Vec<Prediction>> {
        let Checkpoint { model, meta } = &self.checkpoint;
        let frames: Vec<ImageFrame> = images.iter().map(ImageFrame::from).collect();
        let batch = image_tensor(pad_batch(images), &self.device);
        let named = |d: Detection| Prediction { category: meta.categories[d.class as usize].clone(), detection: d };
        predict(model, &meta.model, batch, &frames, &meta.post)
            .detections
            .into_iter()
            .map(|found| found.into_iter().map(named).collect())
            .collect()
    }
}
