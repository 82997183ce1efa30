//! The `data` part of a config.

use std::path::PathBuf;

use foveal_base::{SettingError, check};
use foveal_image::{IMAGENET_MEAN, IMAGENET_STD, Preprocess, ResizeMode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Sampler, ShapesConfig};

/// Where images come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// COCO annotation files and image folders.
    #[default]
    Coco,
    /// The generated set.
    Shapes,
}

/// What a broken image or box does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// All are named, and nothing starts.
    #[default]
    Fail,
    /// They are left out and listed.
    Skip,
}

/// One COCO set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SetConfig {
    /// The annotation file, JSON or gzipped JSON.
    pub annotations: Option<PathBuf>,
    /// The folder that `file_name` is relative to.
    pub images: Option<PathBuf>,
}

/// Random changes of colour, as torchvision's `ColorJitter`: factors from `1 - value` to `1 + value`; 0 is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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

impl AugmentConfig {
    /// Refuses probabilities and ranges that make no sense.
    ///
    /// # Errors
    /// The first such key below `data.augment`, what is possible, and the value.
    pub fn validate(&self) -> Result<(), SettingError> {
        check::fraction("flip_horizontal", self.flip_horizontal)?;
        check::fraction("flip_vertical", self.flip_vertical)?;
        let ColorJitter { brightness, contrast, saturation, hue } = self.color_jitter;
        for (key, value) in [("brightness", brightness), ("contrast", contrast), ("saturation", saturation)] {
            check::fraction(key, value).map_err(|e| e.within("color_jitter"))?;
        }
        check::that((0.0..=0.5).contains(&hue), "color_jitter.hue", "a number from 0 to 0.5", &hue)?;
        let [low, high] = self.scale_jitter;
        let rising = low > 0.0 && low <= high && high.is_finite();
        check::that(rising, "scale_jitter", "[low, high] with 0 < low <= high", &self.scale_jitter)?;
        check::that(!self.min_sizes.contains(&0), "min_sizes", "sides of at least 1 pixel", &self.min_sizes)
    }
}

impl Default for AugmentConfig {
    /// The paper's: horizontal flips alone.
    fn default() -> Self {
        Self { flip_horizontal: 0.5, ..Self::off() }
    }
}

/// Where data come from, how they are checked, and how they become batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Objects with a side below this many pixels of the file are dropped; those that resizing or augmentation brings
    /// below it are ignored: neither object nor background.
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
    /// The first such key below `data`, what is possible, and the value.
    pub fn validate(&self) -> Result<(), SettingError> {
        self.preprocess().validate()?;
        self.augment.validate().map_err(|e| e.within("augment"))?;
        let pixels = self.min_box >= 0.0 && self.min_box.is_finite();
        check::that(pixels, "min_box", "a number of pixels, 0 or more", &self.min_box)?;
        let fraction = self.repeat_threshold > 0.0 && self.repeat_threshold <= 1.0;
        let expected = "a fraction of the images above 0 and up to 1";
        check::that(fraction, "repeat_threshold", expected, &self.repeat_threshold)?;
        match self.source {
            Source::Shapes => self.shapes.validate().map_err(|e| e.within("shapes")),
            Source::Coco => Ok(()),
        }
    }

    /// The number of loading threads: `workers`, or for 0 one less than there are cores, at least one.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1)),
            n => n,
        }
    }
}
