//! The `data` section of a configuration.

use std::path::PathBuf;

use foveal_base::{SettingError, check};
use foveal_image::{IMAGENET_MEAN, IMAGENET_STD, ImageLimit, MAX_IMAGE_BYTES, MAX_SIDE, Preprocess, ResizeMode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CacheConfig, ClassesConfig, MoreSet, Sampler, ShapesConfig, Transform};

/// The kind of data set (`data.source`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// COCO annotation files and folders of images. This is the default.
    #[default]
    Coco,
    /// The generated data set of geometric shapes (`data.shapes`), which needs no files.
    Shapes,
}

/// What happens if images or boxes cannot be used (`data.on_error`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The run does not start, and the error lists all defects. This is the default.
    #[default]
    Fail,
    /// The images and boxes are left out, and a list of them is kept.
    Skip,
}

/// The files of one COCO data set (`data.train` or `data.val`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SetConfig {
    /// Path of the COCO annotation file, JSON or gzipped JSON.
    pub annotations: Option<PathBuf>,
    /// Path of the folder with the images; `file_name` in the annotation file is relative to it.
    pub images: Option<PathBuf>,
}

/// Random changes of colour of training images, as in torchvision's `ColorJitter`. By default all values are 0, which
/// turns them off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ColorJitter {
    /// Change of brightness, from 0 (off) to 1: all channels are multiplied by a random factor from `1 - brightness` to
    /// `1 + brightness`.
    pub brightness: f32,
    /// Change of contrast, from 0 (off) to 1: the difference from the mean grey level of the image is multiplied by a
    /// random factor from `1 - contrast` to `1 + contrast`.
    pub contrast: f32,
    /// Change of saturation, from 0 (off) to 1: the difference from the grey level of each pixel is multiplied by a
    /// random factor from `1 - saturation` to `1 + saturation`.
    pub saturation: f32,
    /// Change of hue, from 0 (off) to 0.5: the hue is shifted by a random fraction of the colour circle from `-hue` to
    /// `hue`.
    pub hue: f32,
}

/// Augmentation: random changes of training images and their boxes (`data.augment`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Probability that an image is flipped horizontally (left and right swapped), from 0 to 1. Default: 0.5.
    pub flip_horizontal: f32,
    /// Probability that an image is flipped vertically (top and bottom swapped), from 0 to 1. Default: 0.
    pub flip_vertical: f32,
    /// Random changes of brightness, contrast, saturation and hue. Default: off.
    pub color_jitter: ColorJitter,
    /// Range `[low, high]` of a log-uniform random factor that the resized image is scaled by. The image is then
    /// cropped or padded back to its size before scaling. Requires `0 < low <= high <= 16`. Default: `[1, 1]`, which
    /// turns it off.
    pub scale_jitter: [f32; 2],
    /// Lengths of the shorter side in pixels, each from 1 to 16384. For each image, one of them is chosen at random in
    /// place of `data.min_size`. Default: empty, which turns it off.
    pub min_sizes: Vec<u32>,
    /// Further random changes, applied in the order of the list to the decoded image, before `color_jitter`, the flips
    /// and resizing. Each entry is a table with the key `kind` and the settings of that kind, such as
    /// `{ kind = "quarter_turns", probability = 0.5 }`. Each has random values of its own, which do not depend on the
    /// other entries. Transforms that rotate or combine images first reduce them to the size that the network needs, so
    /// `random_crop`, which enlarges what it leaves, is better put before them. Default: empty.
    pub transforms: Vec<Transform>,
    /// Number of epochs at the end of a run in which the strong transforms of `transforms` are left out, whose images
    /// differ much from real ones: `mosaic`, `mixup` and `copy_paste`. Default: 0, which never leaves them out.
    pub close_epochs: usize,
}

impl AugmentConfig {
    /// Returns the settings without any augmentation.
    pub fn off() -> Self {
        Self {
            flip_horizontal: 0.0,
            flip_vertical: 0.0,
            color_jitter: ColorJitter::default(),
            scale_jitter: [1.0, 1.0],
            min_sizes: Vec::new(),
            transforms: Vec::new(),
            close_epochs: 0,
        }
    }

    /// Returns the size `[height, width]` in pixels of the canvas of `large_scale_jitter`, if `transforms` contains it.
    pub fn fixed_canvas(&self) -> Option<[u32; 2]> {
        self.transforms.iter().find_map(|transform| match transform {
            Transform::LargeScaleJitter(jitter) => Some(jitter.size),
            _ => None,
        })
    }

    /// Returns whether the strong transforms are left out in `epoch`, which counts from 0, of a run of `epochs` epochs:
    /// whether it is one of the last `close_epochs`. A run without a number of epochs has no last ones.
    pub(crate) fn is_closing(&self, epoch: u64, epochs: Option<usize>) -> bool {
        epochs.is_some_and(|epochs| epoch.saturating_add(self.close_epochs as u64) >= epochs as u64)
    }

    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// A [`SettingError`] with the first invalid key (relative to `data.augment`), the expected range and the value
    /// found: a probability, brightness, contrast or saturation outside 0 to 1; a hue outside 0 to 0.5; a
    /// `scale_jitter` that is not a rising range of positive numbers up to 16; a side outside 1 to [`MAX_SIDE`] pixels
    /// in `min_sizes`; a setting of a transform outside its range, such as `transforms[2].degrees`; a transform that
    /// changes the size of images after `large_scale_jitter`.
    pub fn validate(&self) -> Result<(), SettingError> {
        check::fraction("flip_horizontal", self.flip_horizontal)?;
        check::fraction("flip_vertical", self.flip_vertical)?;
        let ColorJitter { brightness, contrast, saturation, hue } = self.color_jitter;
        for (key, value) in [("brightness", brightness), ("contrast", contrast), ("saturation", saturation)] {
            check::fraction(key, value).map_err(|e| e.within("color_jitter"))?;
        }
        check::that((0.0..=0.5).contains(&hue), "color_jitter.hue", "a number from 0 to 0.5", &hue)?;
        let [low, high] = self.scale_jitter;
        let rising = low > 0.0 && low <= high && high <= MAX_SCALE;
        let expected = format!("[low, high] with 0 < low <= high <= {MAX_SCALE}");
        check::that(rising, "scale_jitter", &expected, &self.scale_jitter)?;
        let sides = self.min_sizes.iter().all(|side| (1..=MAX_SIDE).contains(side));
        check::that(sides, "min_sizes", &format!("sides of 1 to {MAX_SIDE} pixels"), &self.min_sizes)?;
        for (position, transform) in self.transforms.iter().enumerate() {
            transform.validate().map_err(|e| e.within(&format!("transforms[{position}]")))?;
        }
        self.validate_order()
    }

    /// Checks that no transform changes the size of an image after it was put on a canvas of fixed size.
    fn validate_order(&self) -> Result<(), SettingError> {
        let sized = |transform: &Transform| matches!(transform, Transform::LargeScaleJitter(_));
        let Some(canvas) = self.transforms.iter().position(sized) else { return Ok(()) };
        let later = self.transforms.iter().enumerate().skip(canvas + 1);
        match later.into_iter().find(|(_, transform)| transform.changes_size()) {
            None => Ok(()),
            Some((position, transform)) => Err(SettingError::new(
                format!("transforms[{position}].kind"),
                format!(
                    "a transform that keeps the size of the image, because transforms[{canvas}] is \
                     large_scale_jitter, whose result is the network's input; put {} before it",
                    transform.kind()
                ),
                &transform.kind(),
            )),
        }
    }
}

impl Default for AugmentConfig {
    /// The augmentation of arXiv 1708.02002, section 4.1: horizontal flips only.
    fn default() -> Self {
        Self { flip_horizontal: 0.5, ..Self::off() }
    }
}

/// The `data` section of a configuration: the data sets, their checks, preprocessing, sampling, augmentation and
/// loading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Whether images come from COCO files or from the generated data set. Default: `coco`.
    pub source: Source,
    /// The files of the training set, for `source = "coco"`.
    pub train: SetConfig,
    /// The files of the validation set, for `source = "coco"`.
    pub val: SetConfig,
    /// Further training sets, for `source = "coco"`: tables with `annotations`, `images` and `weight`. Their classes
    /// are found by name. Default: empty.
    pub more_train: Vec<MoreSet>,
    /// Which classes of all sets are used, and under which names, for `source = "coco"`.
    pub classes: ClassesConfig,
    /// Folders of training images without objects, with their subfolders, for `source = "coco"`. `filter_empty` does
    /// not leave them out. Default: empty.
    pub backgrounds: Vec<PathBuf>,
    /// Largest share that the images of `backgrounds` have in an epoch, above 0 and below 1. If they are more, each
    /// epoch has a random part of them. Default: not set, which uses each once in an epoch.
    pub backgrounds_share: Option<f64>,
    /// The generated training and validation sets, for `source = "shapes"`.
    pub shapes: ShapesConfig,
    /// Length in pixels that the shorter side of an image is resized to, from 1 to 16384. Default: 800.
    pub min_size: u32,
    /// Largest length in pixels of the longer side after resizing, at least `min_size`. An image that would exceed it
    /// is made smaller. Values above 16384 stand for 16384. Default: 1333.
    pub max_size: u32,
    /// Size `[height, width]` in pixels that every image is resized to, whatever its aspect ratio, each from 1 to
    /// 16384. It replaces `min_size` and `max_size`. Default: not set.
    pub fixed_size: Option<[u32; 2]>,
    /// Interpolation used to resize images. Default: `antialias`.
    pub resize: ResizeMode,
    /// Mean of the red, green and blue channel, which is subtracted from the channel values in 0 to 1. Default: the
    /// means of ImageNet, `[0.485, 0.456, 0.406]`. Each is from 0 to 1: divide means of 0..255 by 255.
    pub mean: [f32; 3],
    /// Standard deviation of the red, green and blue channel, which the channels are divided by after the mean is
    /// subtracted; greater than 0 and at most 1. Default: the standard deviations of ImageNet,
    /// `[0.229, 0.224, 0.225]`. Divide standard deviations of 0..255 by 255.
    pub std: [f32; 3],
    /// Largest number of bytes that a decoded image may need: 3 for each pixel, or the decoder's own buffer if it is
    /// larger, such as 6 for each pixel of a 16-bit PNG. It follows from the header of a file and is checked before the
    /// image is decoded; a larger image counts as one that cannot be decoded. Default: 536870912 (512 MiB), which is
    /// 178 megapixels.
    pub max_image_bytes: u64,
    /// Number of loading threads, at most 1024. 0 stands for the number of processor cores minus one, but at least one.
    /// Default: 0.
    pub workers: usize,
    /// Number of batches that the loading threads may prepare in advance, in addition to one per thread; at most 1024.
    /// Default: 4.
    pub queue: usize,
    /// What happens if images or boxes cannot be used. Default: `fail`.
    pub on_error: OnError,
    /// Largest number of images of a set that may be left out with `on_error = "skip"` because they cannot be used.
    /// More are an error, and so is a set of which no image can be used. Default: not set, which stands for 10 images
    /// or 1 % of the set, whichever is more.
    pub max_skipped: Option<usize>,
    /// Whether crowd regions (`iscrowd`) are dropped, so that anchors in them are background, as in torchvision and
    /// Detectron2. Otherwise the anchors in them are ignored in training. Default: false.
    pub drop_crowds: bool,
    /// Smallest width and height of an object in pixels, 0 or more. Objects that are smaller in the annotation file are
    /// dropped. Objects that become smaller through resizing or augmentation are ignored in training: their anchors are
    /// neither positive nor background. Default: 1.
    pub min_box: f32,
    /// Whether training images without objects are left out. Otherwise they are used as background. Default: false.
    pub filter_empty: bool,
    /// How often each training image is used in an epoch. Default: `uniform`.
    pub sampler: Sampler,
    /// Threshold of `sampler`: a class is rare if the fraction of the training images that contain it is below this
    /// value, and frequent otherwise. Above 0 and at most 1. Default: 0.001.
    pub repeat_threshold: f64,
    /// Whether a batch has images of like shape, so that little of it is padding: those of a window of 64 batches are
    /// sorted by the ratio of their sides, cut into batches, and the batches are shuffled. Each image is used as often
    /// as without grouping, and the batches are still a function of the seed and the epoch. Default: false.
    pub group_by_aspect: bool,
    /// Keeps decoded and resized images in memory or on disk. Default: off.
    pub cache: CacheConfig,
    /// Augmentation of the training images. Default: horizontal flips with a probability of 0.5.
    pub augment: AugmentConfig,
}

/// Threshold of repeat factor sampling in LVIS (Gupta et al., arXiv 1908.03195, section 5.1).
const REPEAT_THRESHOLD: f64 = 0.001;
/// Largest factor of `augment.scale_jitter`.
const MAX_SCALE: f32 = 16.0;
/// Largest number of loading threads and of batches that they prepare in advance.
const MAX_WORKERS: u64 = 1024;

/// Number of images that may be left out of a set of any size, unless `max_skipped` is set.
const SKIPPED: usize = 10;
/// One of this many images may be left out of a large set, unless `max_skipped` is set.
const SKIPPED_SHARE: usize = 100;
/// Smallest standard deviation of a channel, far below a step of 1/255. With a smaller one, normalised values would not
/// be finite in single precision.
const LEAST_STD: f32 = 1e-6;

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            source: Source::default(),
            train: SetConfig::default(),
            val: SetConfig::default(),
            more_train: Vec::new(),
            classes: ClassesConfig::default(),
            backgrounds: Vec::new(),
            backgrounds_share: None,
            shapes: ShapesConfig::default(),
            min_size: 800,
            max_size: 1333,
            fixed_size: None,
            resize: ResizeMode::default(),
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
            max_image_bytes: MAX_IMAGE_BYTES,
            workers: 0,
            queue: 4,
            on_error: OnError::default(),
            max_skipped: None,
            drop_crowds: false,
            min_box: 1.0,
            filter_empty: false,
            sampler: Sampler::default(),
            repeat_threshold: REPEAT_THRESHOLD,
            group_by_aspect: false,
            cache: CacheConfig::default(),
            augment: AugmentConfig::default(),
        }
    }
}

impl DataConfig {
    /// Returns the preprocessing of images (size, resizing and normalisation), which is also stored in checkpoints.
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

    /// Returns the limit on the memory that an image may need.
    pub fn image_limit(&self) -> ImageLimit {
        ImageLimit { max_bytes: self.max_image_bytes }
    }

    /// Checks that every value is in its range. No file is read. `data.shapes` is checked only if it is the source.
    ///
    /// # Errors
    /// A [`SettingError`] with the first invalid key (relative to `data`), the expected range and the value found.
    pub fn validate(&self) -> Result<(), SettingError> {
        self.preprocess().validate()?;
        let unit = |v: &f32| (0.0..=1.0).contains(v);
        let expected = "three numbers from 0 to 1, because pixel values are divided by 255 before the mean is \
                        subtracted; divide means of 0..255 by 255";
        check::that(self.mean.iter().all(unit), "mean", expected, &self.mean)?;
        let expected = "three numbers from 1e-6 to 1, because pixel values are divided by 255; divide standard \
                        deviations of 0..255 by 255";
        check::that(self.std.iter().all(|v| unit(v) && *v >= LEAST_STD), "std", expected, &self.std)?;
        self.augment.validate().map_err(|e| e.within("augment"))?;
        check::that(
            self.max_image_bytes > 0,
            "max_image_bytes",
            "a number of bytes, at least 1",
            &self.max_image_bytes,
        )?;
        check::count("workers", self.workers, 0..=MAX_WORKERS)?;
        check::count("queue", self.queue, 0..=MAX_WORKERS)?;
        let pixels = self.min_box >= 0.0 && self.min_box.is_finite();
        check::that(pixels, "min_box", "a number of pixels, 0 or more", &self.min_box)?;
        let fraction = self.repeat_threshold > 0.0 && self.repeat_threshold <= 1.0;
        let expected = "a fraction of the images above 0 and up to 1";
        check::that(fraction, "repeat_threshold", expected, &self.repeat_threshold)?;
        self.cache.validate(self.source).map_err(|e| e.within("cache"))?;
        for (number, set) in self.more_train.iter().enumerate() {
            set.validate().map_err(|e| e.within(&format!("more_train[{number}]")))?;
        }
        self.classes.validate().map_err(|e| e.within("classes"))?;
        let share = self.backgrounds_share.is_none_or(|share| share > 0.0 && share < 1.0);
        check::that(share, "backgrounds_share", "a fraction above 0 and below 1", &self.backgrounds_share)?;
        match self.source {
            Source::Shapes => self.shapes.validate().map_err(|e| e.within("shapes")),
            Source::Coco => Ok(()),
        }
    }

    /// Returns how many of `images` images may be left out: `max_skipped`, or if that is not set 10 images or 1 % of
    /// them, whichever is more. Never all.
    pub fn skip_limit(&self, images: usize) -> usize {
        let limit = self.max_skipped.unwrap_or((images / SKIPPED_SHARE).max(SKIPPED));
        limit.min(images.saturating_sub(1))
    }

    /// Returns the number of loading threads: `workers`, or if that is 0 the number of processor cores minus one, but
    /// at least one.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1)),
            n => n,
        }
    }
}
