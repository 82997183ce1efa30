//! What `foveal init` has measured: the data set, the weight file, the device, and the time of a step.

use foveal_data::{Dataset, ResizedStats, Sampler, Stats, Symmetry, image_repeat_factors, percentiles};
use foveal_image::Preprocess;
use serde::Serialize;

use super::plan::Network;

/// Shorter side in pixels to which images are resized to measure objects relative to their image.
const UNIT: u32 = 1000;
/// No limit on the longer side.
const NO_LIMIT: u32 = 1_000_000;

/// Everything that the plan of a configuration follows from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Facts {
    /// The training images and their objects.
    pub data: DataFacts,
    /// The validation images.
    pub val: ValFacts,
    /// What `--weights` contains; `None` without it.
    pub weights: Option<WeightFacts>,
    /// The device that the training will run on.
    pub device: DeviceFacts,
    /// Minutes that the training may take; `None` without a limit.
    pub minutes: Option<f64>,
    /// The measured time of a step, where `minutes` is given.
    pub timed: Option<Timed>,
    /// Largest batch that fits into the memory of the device; `None` where the memory is unknown or not the bound.
    pub most_batch: Option<usize>,
    /// Number of epochs that the command line sets; `None` to choose it.
    pub epochs: Option<usize>,
    /// Seed of the division and of the training.
    pub seed: u64,
}

/// The training images and their objects.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct DataFacts {
    /// Number of training images.
    pub images: usize,
    /// Number of training images without objects.
    pub empty_images: usize,
    /// Number of objects of the training images, without crowd regions.
    pub objects: usize,
    /// Number of crowd regions of the training images.
    pub crowds: usize,
    /// Number of images or boxes that cannot be used and are left out.
    pub left_out: usize,
    /// Number of images that are another image under a second name or id, over all images.
    pub duplicates: usize,
    /// The classes, in the order of their category ids.
    pub classes: Vec<ClassFacts>,
    /// Objects of the most frequent class for each object of the rarest class that occurs.
    pub imbalance: f64,
    /// Sides of the objects (square root of the area of the box) over the shorter side of their image: minimum, 10th
    /// percentile, median, 90th percentile, maximum.
    pub sides: [f32; 5],
    /// Fraction of the objects that are small in the original images, with an area below 32x32 pixels.
    pub small_share: f64,
    /// Shorter sides of the images in pixels: 10th percentile, median, 90th percentile.
    pub image_sides: [f32; 3],
    /// Longer over shorter sides of the images: median and 90th percentile.
    pub aspect: [f32; 2],
    /// Objects in an image: median, 90th percentile, maximum.
    pub objects_per_image: [f32; 3],
    /// Orientation of the objects; `None` where there are too few objects to tell.
    pub orientation: Option<Orientation>,
    /// Threshold of repeat factor sampling that would be used, and the images of an epoch with it.
    pub repeats: Repeats,
}

/// One class of the training images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ClassFacts {
    /// Name of the category.
    pub name: String,
    /// Number of objects.
    pub objects: usize,
    /// Number of images with an object of the class.
    pub images: usize,
    /// 10th percentile of the sides of its objects over the shorter side of their image.
    pub side_p10: f32,
    /// 90th percentile of the sides of its objects over the shorter side of their image.
    pub side_p90: f32,
}

/// The largest values over the classes with enough objects, each without what chance alone would explain: about 0 if no
/// class has a preferred orientation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Orientation {
    /// Number of objects of these classes that were compared with their mirror images.
    pub objects: usize,
    /// Fraction of the difference to their upside-down images that all objects of a class have in common.
    pub vertical: f64,
    /// Fraction of the difference to their images with left and right swapped that all objects of a class have in
    /// common.
    pub horizontal: f64,
    /// Preference for tall or for wide boxes: absolute mean of `ln(height / width)`.
    pub shape: f64,
}

/// Repeat factor sampling with a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Repeats {
    /// Fraction of the images below which a class is rare.
    pub threshold: f64,
    /// How often an image with the rarest class is used in an epoch.
    pub rarest: f64,
    /// Number of images of an epoch, with repetitions.
    pub epoch_images: usize,
}

/// Where the validation images come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ValFacts {
    /// Number of validation images.
    pub images: usize,
    /// Whether the validation images were held out from those of `--train`; otherwise they are those of `--val`.
    pub held_out: bool,
    /// Number of classes that have training objects and no validation objects.
    pub classes_without: usize,
}

/// The content of the weight file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum WeightFacts {
    /// A backbone, as a whole or in part.
    Backbone {
        /// Value of `model.backbone`.
        backbone: String,
        /// Value of `model.norm`.
        norm: String,
        /// Whether its blocks are bottlenecks, as in a ResNet-50.
        bottleneck: bool,
        /// Number of tensors that the file contains.
        present: usize,
        /// Number of tensors that the file lacks.
        missing: usize,
    },
    /// A checkpoint of foveal, which is a whole detector.
    Checkpoint {
        /// Keys of its network and of the colours of its input images that differ from the defaults, with their values.
        settings: Vec<(String, toml::Value)>,
        /// Number of anchors at each location.
        anchors_per_location: usize,
    },
}

/// The device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct DeviceFacts {
    /// Name of the device, such as `flex`.
    pub name: String,
    /// Whether it is a CPU.
    pub is_cpu: bool,
    /// Number of threads that compute on a CPU.
    pub threads: usize,
    /// Bytes of the memory, free memory on a CPU; `None` where it is not known.
    pub memory: Option<u64>,
}

/// The measured times of a training step and of inference, for each image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Timed {
    /// Shorter side of the images.
    pub size: u32,
    /// Number of images of the step.
    pub batch: usize,
    /// The network.
    pub network: Network,
    /// Seconds of a training step for each image.
    pub train: f64,
    /// Seconds of inference for each image.
    pub infer: f64,
    /// Seconds of one loading thread for each image.
    pub load: f64,
    /// Seconds of the first step beyond those of a later one.
    pub start: f64,
}

/// Fewest objects of a class whose orientation is judged.
const LEAST_OBJECTS: usize = 24;
/// The share that chance alone seldom exceeds, times the number of objects: two standard deviations of the squared mean
/// of `n` numbers of random sign are `2 sqrt(2) / n` of their mean square.
const CHANCE: f64 = 2.83;
/// Repeat factor of the rarest class that the threshold is chosen for.
const WISHED_REPEATS: f64 = 4.0;
/// Largest threshold of repeat factor sampling.
const MOST_THRESHOLD: f64 = 0.5;

impl DataFacts {
    /// Measures the training images. `symmetry` is the measured orientation of objects of the same classes; `left_out`
    /// and `duplicates` are numbers of all images.
    pub(super) fn of(dataset: &Dataset, symmetry: &Symmetry, left_out: usize, duplicates: usize) -> Self {
        let stats = Stats::of(dataset);
        let unit = Preprocess { min_size: UNIT, max_size: NO_LIMIT, ..Preprocess::default() };
        let relative = ResizedStats::of(dataset, &unit);
        let of_unit = |side: f32| side / UNIT as f32;
        let classes: Vec<ClassFacts> = stats
            .classes
            .iter()
            .zip(&relative.class_sides)
            .map(|(class, sides)| ClassFacts {
                name: class.name.clone(),
                objects: class.objects,
                images: class.images,
                side_p10: of_unit(sides[1]),
                side_p90: of_unit(sides[3]),
            })
            .collect();
        let records = dataset.records();
        let short = records.iter().map(|r| r.width.min(r.height) as f32);
        let aspect = records.iter().map(|r| r.width.max(r.height) as f32 / r.width.min(r.height) as f32);
        let [small, medium, large] = stats.small_medium_large;
        let [_, _, median, most, maximum] = stats.objects_per_image;
        Self {
            images: stats.images,
            empty_images: stats.empty_images,
            objects: stats.objects,
            crowds: stats.crowds,
            left_out,
            duplicates,
            imbalance: stats.imbalance(),
            sides: relative.sides.map(of_unit),
            small_share: small as f64 / (small + medium + large).max(1) as f64,
            image_sides: percentiles(short, [10, 50, 90]),
            aspect: percentiles(aspect, [50, 90]),
            objects_per_image: [median, most, maximum],
            orientation: Orientation::of(symmetry),
            repeats: Repeats::of(dataset, &classes),
            classes,
        }
    }
}

impl Orientation {
    fn of(symmetry: &Symmetry) -> Option<Self> {
        let enough = symmetry.classes.iter().flatten().filter(|class| class.objects >= LEAST_OBJECTS);
        enough.fold(None, |found: Option<Self>, class| {
            let (objects, most) = found.map_or((0, [0.0; 3]), |f| (f.objects, [f.vertical, f.horizontal, f.shape]));
            let beyond_chance = |share: f64| share - CHANCE / class.objects as f64;
            Some(Self {
                objects: objects + class.objects,
                vertical: most[0].max(beyond_chance(class.vertical)),
                horizontal: most[1].max(beyond_chance(class.horizontal)),
                shape: most[2].max(class.shape),
            })
        })
    }
}

impl Repeats {
    /// The threshold with which images of the rarest class are used four times in an epoch, at most one half.
    fn of(dataset: &Dataset, classes: &[ClassFacts]) -> Self {
        let images = dataset.len();
        let rarest = classes.iter().map(|class| class.images).filter(|images| *images > 0).min().unwrap_or(images);
        let fraction = rarest as f64 / images.max(1) as f64;
        let threshold = (WISHED_REPEATS * WISHED_REPEATS * fraction).min(MOST_THRESHOLD);
        // Two significant digits are enough, and are what the file says.
        let threshold = format!("{threshold:.1e}").parse().unwrap_or(threshold);
        let epoch_images = match images {
            0 => 0.0,
            _ => image_repeat_factors(dataset, Sampler::RepeatFactor, threshold).iter().sum::<f64>(),
        };
        Self {
            threshold,
            rarest: Sampler::RepeatFactor.class_repeat_factor(rarest, images, threshold),
            epoch_images: (epoch_images.round() as usize).max(1),
        }
    }
}
