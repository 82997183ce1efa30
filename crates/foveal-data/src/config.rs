//! The `data` part of a config.

use std::path::PathBuf;

use foveal_image::{IMAGENET_MEAN, IMAGENET_STD, Preprocess, ResizeMode};
use serde::{Deserialize, Serialize};

use crate::{DataError, Sampler, ShapesConfig};

/// Where images come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// COCO annotation files and image folders.
    #[default]
    Coco,
    /// The generated set.
    Shapes,
}

/// What a broken image or box does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// All are named, and nothing starts.
    #[default]
    Fail,
    /// They are left out and listed.
    Skip,
}

/// One COCO set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetConfig {
    /// The annotation file, JSON or gzipped JSON.
    pub annotations: Option<PathBuf>,
    /// The folder that `file_name` is relative to.
    pub images: Option<PathBuf>,
}

/// Random changes of colour, as torchvision's `ColorJitter`: factors from `1 - value` to `1 + value`; 0 is off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColorJitter {
    /// Times all channels.
    pub brightness: f32,
    /// Away from or to the mean grey.
    pub contrast: f32,
    /// Away from or to each pixel's grey.
    pub saturation: f32,
    /// Turned by up to this fraction of the colour circle, at most 0.5.
    pub hue: f32,
}

/// Random changes of training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Probability of a left-right flip.
    pub flip_horizontal: f32,
    /// Probability of an upside-down flip.
    pub flip_vertical: f32,
    /// Colours.
    pub color_jitter: ColorJitter,
    /// The image is scaled by a factor from this range, log-uniform, then cropped or padded back to its size.
    pub scale_jitter: [f32; 2],
    /// Short sides, one of which replaces `min_size` for each image; empty is off.
    pub min_sizes: Vec<u32>,
}

impl AugmentConfig {
    /// No augmentation at all.
    pub fn off() -> Self {
        Self {
            flip_horizontal: 0.0,
            flip_vertical: 0.0,
            color_jitter: ColorJitter::default(),
            scale_jitter: [1.0, 1.0],
            min_sizes: Vec::new(),
        }
    }
}

impl Default for AugmentConfig {
    /// The paper's: horizontal flips alone.
    fn default() -> Self {
        Self { flip_horizontal: 0.5, ..Self::off() }
    }
}

/// Where data come from, how they are checked, and how they become batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// COCO files or the generated set.
    pub source: Source,
    /// The training set (`source = "coco"`).
    pub train: SetConfig,
    /// The validation set (`source = "coco"`).
    pub val: SetConfig,
    /// The generated sets (`source = "shapes"`).
    pub shapes: ShapesConfig,
    /// Pixels of the shorter side.
    pub min_size: u32,
    /// Most pixels of the longer side.
    pub max_size: u32,
    /// `[height, width]` for every image instead.
    pub fixed_size: Option<[u32; 2]>,
    /// The filter.
    pub resize: ResizeMode,
    /// Subtracted from each channel in 0..1.
    pub mean: [f32; 3],
    /// Each channel is divided by it afterwards.
    pub std: [f32; 3],
    /// Loading threads; 0 is one less than there are cores, at least one.
    pub workers: usize,
    /// Batches that may wait for the model.
    pub queue: usize,
    /// What a broken image or box does.
    pub on_error: OnError,
    /// Crowd regions become background instead of being ignored (torchvision and Detectron2 do so).
    pub drop_crowds: bool,
    /// Boxes with a side below this many pixels, in the file or after augmentation, are dropped.
    pub min_box: f32,
    /// Training images without objects are dropped.
    pub filter_empty: bool,
    /// How often training images are shown.
    pub sampler: Sampler,
    /// The fraction of images with a class from which on the sampler takes it for rare or frequent.
    pub repeat_threshold: f64,
    /// Random changes of training images.
    pub augment: AugmentConfig,
}

/// LVIS's threshold of repeat-factor sampling (arXiv 1908.03195, section 5.1).
const REPEAT_THRESHOLD: f64 = 0.001;

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            source: Source::default(),
            train: SetConfig::default(),
            val: SetConfig::default(),
            shapes: ShapesConfig::default(),
            min_size: 800,
            max_size: 1333,
            fixed_size: None,
            resize: ResizeMode::default(),
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
            workers: 0,
            queue: 4,
            on_error: OnError::default(),
            drop_crowds: false,
            min_box: 1.0,
            filter_empty: false,
            sampler: Sampler::default(),
            repeat_threshold: REPEAT_THRESHOLD,
            augment: AugmentConfig::default(),
        }
    }
}

impl DataConfig {
    /// The preprocessing, as a checkpoint carries it.
    pub fn preprocess(&self) -> Preprocess {
        Preprocess {
            min_size: self.min_size,
            max_size: self.max_size,
            fixed_size: self.fixed_size,
            resize: self.resize,
            mean: self.mean,
            std: self.std,
        }
    }

    /// Refuses values that no run could work with.
    ///
    /// # Errors
    /// [`DataError::Setting`] or [`DataError::Preprocess`]: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), DataError> {
        self.preprocess().check().map_err(DataError::Preprocess)?;
        let augment = &self.augment;
        let jitter = &augment.color_jitter;
        let fraction = |v: f32| (0.0..=1.0).contains(&v);
        let [low, high] = augment.scale_jitter;
        let scales = low > 0.0 && low <= high && high.is_finite();
        for (good, key, found, expected) in [
            (fraction(augment.flip_horizontal), "data.augment.flip_horizontal", augment.flip_horizontal, "0 to 1"),
            (fraction(augment.flip_vertical), "data.augment.flip_vertical", augment.flip_vertical, "0 to 1"),
            (fraction(jitter.brightness), "data.augment.color_jitter.brightness", jitter.brightness, "0 to 1"),
            (fraction(jitter.contrast), "data.augment.color_jitter.contrast", jitter.contrast, "0 to 1"),
            (fraction(jitter.saturation), "data.augment.color_jitter.saturation", jitter.saturation, "0 to 1"),
            (fraction(2.0 * jitter.hue), "data.augment.color_jitter.hue", jitter.hue, "0 to 0.5"),
            (self.min_box >= 0.0 && self.min_box.is_finite(), "data.min_box", self.min_box, "pixels, at least 0"),
        ] {
            if !good {
                return Err(DataError::Setting { key, found: found.to_string(), expected });
            }
        }
        if !(self.repeat_threshold > 0.0 && self.repeat_threshold <= 1.0) {
            let (key, expected) = ("data.repeat_threshold", "a fraction of the images above 0 and up to 1");
            return Err(DataError::Setting { key, found: self.repeat_threshold.to_string(), expected });
        }
        if !scales {
            let (key, expected) = ("data.augment.scale_jitter", "[low, high] with 0 < low <= high");
            return Err(DataError::Setting { key, found: format!("{:?}", augment.scale_jitter), expected });
        }
        if augment.min_sizes.contains(&0) {
            let (key, expected) = ("data.augment.min_sizes", "sides of at least 1 pixel");
            return Err(DataError::Setting { key, found: format!("{:?}", augment.min_sizes), expected });
        }
        if self.source == Source::Shapes {
            self.shapes.validate()?;
        }
        Ok(())
    }

    /// The number of loading threads: `workers`, or for 0 one less than there are cores, at least one.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1)),
            n => n,
        }
    }
}
