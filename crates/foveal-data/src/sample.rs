//! One image of a batch: loaded, augmented and resized, with its objects.

use foveal_image::{Preprocess, Staged};

use crate::augment::{Geometry, PlacedObjects};
use crate::{AugmentConfig, DataConfig, DataError, Dataset, Stream, color};

/// Makes samples of the images of a data set.
#[derive(Clone, Debug)]
pub(crate) struct SampleMaker {
    /// Size, resizing and normalisation of the images.
    pub preprocess: Preprocess,
    /// The augmentation; `None` outside training.
    pub augment: Option<AugmentConfig>,
    /// Smallest side of an object in pixels after resizing.
    pub min_box: f32,
    /// Seed of the random values of the augmentation.
    pub seed: u64,
    /// Number of the epoch; each epoch has other random values.
    pub epoch: u64,
}

/// An image with its objects, ready to be padded.
pub(crate) struct Sample {
    /// Index of the image in the data set, from 0.
    pub index: usize,
    /// The augmented and resized image on its canvas.
    pub image: Staged,
    /// Objects of the image, in pixels of the canvas.
    pub placed: PlacedObjects,
}

/// Keys that separate the random streams of geometry and colour, so that turning one off does not change the other.
const GEOMETRY: u64 = 1;
const COLOR: u64 = 2;

impl SampleMaker {
    /// Creates the maker of an epoch's samples. Images are augmented only if `training` is true.
    pub(crate) fn new(config: &DataConfig, training: bool, seed: u64, epoch: u64) -> Self {
        Self {
            preprocess: config.preprocess(),
            augment: training.then(|| config.augment.clone()),
            min_box: config.min_box,
            seed,
            epoch,
        }
    }

    /// Loads, augments and resizes image `index` and its boxes.
    ///
    /// # Errors
    /// The error of [`Dataset::load`] if the image cannot be loaded.
    pub(crate) fn make(&self, dataset: &Dataset, index: usize) -> Result<Sample, DataError> {
        let record = dataset.record(index);
        let mut image = dataset.load(index)?;
        let geometry = match &self.augment {
            None => Geometry::plain(&self.preprocess, record),
            Some(augment) => {
                let random = |part| Stream::new(&[self.seed, self.epoch, index as u64, part]);
                color::jitter(&mut image, &augment.color_jitter, &mut random(COLOR));
                Geometry::random(&self.preprocess, record, augment, &mut random(GEOMETRY))
            }
        };
        Ok(Sample {
            index,
            image: geometry.apply(image, &self.preprocess),
            placed: geometry.place(record, self.min_box),
        })
    }
}
