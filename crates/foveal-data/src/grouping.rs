//! The batches of an epoch (`data.group_by_aspect`): images of like shape together, so that little of a batch is
//! padding.
//!
//! The shuffled images of an epoch are taken in windows of [`WINDOW`] batches. The images of a window are sorted by the
//! shape that each has alone after resizing and padding, and cut into batches. At last the batches are shuffled. Images
//! of one shape keep their random order, so that their batches are others in every epoch.

use std::cmp::Ordering;

use foveal_image::{Preprocess, padded_length};

use crate::augment::{Geometry, Size};
use crate::sampler::epoch_order;
use crate::{DataConfig, Dataset, Record, Stream};

/// Key that separates the random stream of the batches from those of the samples and of the order of the images.
const GROUP: u64 = 14;
/// Number of batches whose images are sorted together. More would save little: with 64 batches, one or two of them have
/// images of both orientations.
const WINDOW: usize = 64;

/// The height and width in pixels of a resized and padded image, ordered by the ratio of width to height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    height: usize,
    width: usize,
}

impl Shape {
    /// The shape of an image that is resized as in training, without the random part of the augmentation.
    fn of(preprocess: &Preprocess, record: &Record) -> Self {
        let image = Size { width: record.width, height: record.height };
        let Size { width, height } = Geometry::plain(preprocess, image).canvas;
        Self { height: padded_length(height as usize), width: padded_length(width as usize) }
    }
}

impl Ord for Shape {
    fn cmp(&self, other: &Self) -> Ordering {
        let ratios = (self.width * other.height).cmp(&(other.width * self.height));
        ratios.then(self.width.cmp(&other.width)).then(self.height.cmp(&other.height))
    }
}

impl PartialOrd for Shape {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Returns the batches of a training epoch, each as the indices of its images. The result is a function of the seed and
/// the epoch, and has every image of [`epoch_order`] as often as that. All batches have `batch_size` images, except the
/// last, which can have fewer.
///
/// With `config.group_by_aspect`, the images of a batch have similar shapes after resizing. The shape is that without
/// the random part of the augmentation: `data.augment.min_sizes`, `scale_jitter` and flips keep the ratio of its sides,
/// but transforms such as `quarter_turns`, `random_crop` or `mosaic` can change it after the images were grouped. If
/// all images have one shape, or a batch has one image, the batches are those without grouping.
///
/// # Panics
/// If `batch_size` is 0, or if `config.repeat_threshold` is not positive and the sampler is not
/// [`Sampler::Uniform`](crate::Sampler::Uniform).
pub fn epoch_batches(
    dataset: &Dataset,
    config: &DataConfig,
    batch_size: usize,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<usize>> {
    let order = epoch_order(dataset, config, seed, epoch);
    if config.group_by_aspect && batch_size > 1 {
        let preprocess = config.preprocess();
        let shapes: Vec<Shape> = dataset.records().iter().map(|record| Shape::of(&preprocess, record)).collect();
        if order.iter().any(|image| shapes[*image] != shapes[order[0]]) {
            return grouped(&order, batch_size, &shapes, &mut Stream::new(&[seed, epoch, GROUP]));
        }
    }
    order.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

/// Cuts the images into batches of like shape. `shapes` has the shape of each image of the data set.
fn grouped(order: &[usize], batch_size: usize, shapes: &[Shape], random: &mut Stream) -> Vec<Vec<usize>> {
    let (mut batches, mut rest) = (Vec::with_capacity(order.len().div_ceil(batch_size)), None);
    for window in order.chunks(WINDOW * batch_size) {
        let mut sorted = window.to_vec();
        sorted.sort_by_key(|image| shapes[*image]);
        // The images of a last batch that is not full are taken from a random place, so that no shape is in it more
        // often than others.
        let few = sorted.len() % batch_size;
        if few > 0 {
            let start = random.below(sorted.len() - few + 1);
            rest = Some(sorted.drain(start..start + few).collect());
        }
        batches.extend(sorted.chunks(batch_size).map(<[usize]>::to_vec));
    }
    random.shuffle(&mut batches);
    batches.extend(rest);
    batches
}
