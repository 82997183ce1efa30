//! Object detection with a checkpoint: images in, detections with their categories out.

use std::path::Path;

use burn::tensor::Device;
use foveal_base::SettingError;
use foveal_coco::CategoryInfo;
use foveal_image::{ImageBatch, ImageFrame, RgbImage, Staged};
use foveal_kernels::{KeptWeights, keep_weights};

use crate::{Checkpoint, ComputePrecision, Detection, DetectorError, NonFiniteOutput, image_tensor, predict};

/// Detects objects in images with the network, preprocessing and thresholds of a checkpoint.
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
    /// Network, preprocessing, thresholds and categories. Preprocessing and thresholds may be changed at any time.
    pub checkpoint: Checkpoint,
    device: Device,
    precision: ComputePrecision,
    /// On a CPU, the weights are packed and transformed for the first image only.
    _kept: KeptWeights,
}

/// One detected object with the category of its class. Returned by [`Detector`].
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Box in pixels of the original image, score in 0..1 and class index.
    pub detection: Detection,
    /// Category (id and name) of the detection's class.
    pub category: CategoryInfo,
}

impl Detector {
    /// Creates a detector from the checkpoint file at `path`, on a device without autodiff.
    ///
    /// # Errors
    /// [`DetectorError::Io`] if the file cannot be read; [`DetectorError::Checkpoint`] if it is not a checkpoint, is
    /// damaged, or was written by a newer version.
    pub fn open(path: &Path, device: &Device) -> Result<Self, DetectorError> {
        Ok(Self::new(Checkpoint::load(path, device)?, device))
    }

    /// Creates a detector from a loaded checkpoint, whose thresholds and preprocessing may have been changed. `device`
    /// is the device that the checkpoint was loaded onto.
    pub fn new(checkpoint: Checkpoint, device: &Device) -> Self {
        Self { checkpoint, device: device.clone(), precision: ComputePrecision::F32, _kept: keep_weights() }
    }

    /// The same detector with convolutions and feature maps in another precision than f32. Weights, logits and boxes
    /// stay f32.
    ///
    /// # Errors
    /// [`DetectorError::Setting`] if the device does not support the precision.
    pub fn with_precision(mut self, precision: ComputePrecision) -> Result<Self, DetectorError> {
        let unsupported = |expected: String| SettingError::new("precision", &expected, &precision.name());
        precision.check(&self.device).map_err(unsupported)?;
        self.precision = precision;
        Ok(self)
    }

    /// Detects the objects in one image. The result is sorted by descending score; boxes are in pixels of the image.
    ///
    /// # Errors
    /// [`DetectorError::EmptyImage`] if the width or height of the image is 0; [`DetectorError::Setting`] if the
    /// checkpoint's preprocessing was changed to invalid values; [`DetectorError::NonFinite`] if the network's output
    /// is NaN or infinite.
    pub fn detect(&self, image: &RgbImage) -> Result<Vec<Prediction>, DetectorError> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(DetectorError::EmptyImage { width, height });
        }
        self.checkpoint.meta.preprocess.validate()?;
        let staged = self.checkpoint.meta.preprocess.stage(image);
        Ok(self.detect_staged(&[staged])?.pop().unwrap_or_default())
    }

    /// Detects the objects in several images, which the checkpoint's preprocessing has resized and which are padded to
    /// a common size and run as one batch. `images` must not be empty. Detections must have a higher score than
    /// `post.score_threshold` and than the threshold of their class in `class_thresholds` of the checkpoint's metadata.
    ///
    /// # Shapes
    /// - result: one list of detections per image, each sorted by descending score, with boxes in pixels of the
    ///   original image
    ///
    /// # Errors
    /// [`NonFiniteOutput`] if the network's output is NaN or infinite, with the indices of the images in `images`.
    ///
    /// # Panics
    /// If `class_thresholds` was changed to another number of values than there are categories.
    pub fn detect_staged(&self, images: &[Staged]) -> Result<Vec<Vec<Prediction>>, NonFiniteOutput> {
        let Checkpoint { model, meta } = &self.checkpoint;
        let frames: Vec<ImageFrame> = images.iter().map(Staged::frame).collect();
        let batch = image_tensor(ImageBatch::stack(images, &meta.preprocess), &self.device);
        let batch = self.precision.cast(batch);
        let named = |d: Detection| Prediction { category: meta.categories[d.class as usize].clone(), detection: d };
        let predicted = predict(model, &meta.model, batch, &frames, &meta.post)?;
        // Suppression works within a class, so that it does not matter whether the thresholds are applied before it.
        let kept = |found: Vec<Detection>| {
            found.into_iter().filter(|d| meta.reaches_class_threshold(d.class, d.score)).map(named).collect()
        };
        Ok(predicted.detections.into_iter().map(kept).collect())
    }
}
