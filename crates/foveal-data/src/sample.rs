//! One image of a batch: loaded, augmented and resized, with its objects.

use std::time::Instant;

use foveal_image::{Preprocess, Staged};

use crate::augment::{Geometry, PlacedObjects};
use crate::labels::Labels;
use crate::transforms::{Context, Frame, ObjectIndex, TransformTime, Working};
use crate::{AugmentConfig, DataConfig, DataError, Dataset, LoaderOptions, OnError, Skipped, Stream, Transform, color};

/// Makes samples of the images of a data set.
#[derive(Clone, Debug)]
pub(crate) struct SampleMaker {
    /// Size, resizing and normalisation of the images.
    pub preprocess: Preprocess,
    /// The augmentation; `None` outside training.
    augment: Option<Augmentation>,
    /// Smallest side of an object in pixels after resizing.
    min_box: f32,
    /// What happens if an image cannot be loaded.
    pub on_error: OnError,
    /// Seed of the random values of the augmentation.
    pub seed: u64,
    /// Number of the epoch; each epoch has other random values.
    pub epoch: u64,
}

/// The augmentation of an epoch.
#[derive(Clone, Debug)]
struct Augmentation {
    config: AugmentConfig,
    /// Whether the strong transforms are left out, because the run is about to end.
    closing: bool,
    frame: Frame,
    /// The objects of the data set by class; empty if no transform needs them.
    objects: ObjectIndex,
}

/// An image with its objects, ready to be padded.
pub(crate) struct Sample {
    /// Index of the image in the data set, from 0.
    pub index: usize,
    /// The augmented and resized image on its canvas.
    pub image: Staged,
    /// Objects of the image, in pixels of the canvas.
    pub placed: PlacedObjects,
    /// Times of the transforms that were applied.
    pub times: Vec<TransformTime>,
}

/// Keys that separate the random streams of geometry, colour and transforms, so that turning one off does not change the
/// others. The stream of a transform has its position in the list as a further key.
const GEOMETRY: u64 = 1;
const COLOR: u64 = 2;
const TRANSFORM: u64 = 3;

impl SampleMaker {
    /// Creates the maker of an epoch's samples. Images are augmented only in training. `epoch` counts from 0.
    pub(crate) fn new(dataset: &Dataset, config: &DataConfig, options: &LoaderOptions, epoch: u64) -> Self {
        let preprocess = config.preprocess();
        let pastes = config.augment.transforms.iter().any(|t| matches!(t, Transform::CopyPaste(_)));
        let augment = options.training.then(|| Augmentation {
            config: config.augment.clone(),
            closing: config.augment.is_closing(epoch, options.epochs),
            frame: Frame::new(&preprocess, &config.augment),
            objects: if pastes { ObjectIndex::new(dataset.records()) } else { ObjectIndex::default() },
        });
        let LoaderOptions { seed, .. } = *options;
        Self { preprocess, augment, min_box: config.min_box, on_error: config.on_error, seed, epoch }
    }

    /// Loads, augments and resizes image `index` and its objects. Other images that a transform needs and that cannot be
    /// loaded are added to `skipped` if `data.on_error` is `skip`.
    ///
    /// # Errors
    /// The error of [`Dataset::load`] if the image cannot be loaded, or if another one cannot that a transform needs and
    /// `data.on_error` is `fail`.
    pub(crate) fn make(
        &self,
        dataset: &Dataset,
        index: usize,
        skipped: &mut Vec<Skipped>,
    ) -> Result<Sample, DataError> {
        let image = dataset.load(index)?;
        let mut working = Working { image, labels: Labels::from(dataset.record(index)), sized: false };
        let mut times = Vec::new();
        let geometry = match &self.augment {
            None => Geometry::plain(&self.preprocess, working.size()),
            Some(augmentation) => {
                let mut context = Context::new(dataset, &augmentation.frame, &augmentation.objects, self.on_error);
                let transformed = self.transform(&mut working, augmentation, &mut context, index, &mut times);
                skipped.append(&mut context.skipped);
                transformed?;
                self.jitter(&mut working, &augmentation.config, index)
            }
        };
        let size = working.size();
        Ok(Sample {
            index,
            image: geometry.apply(working.image, &self.preprocess),
            placed: geometry.place(size, &working.labels, self.min_box),
            times,
        })
    }

    /// The random stream of a part of the augmentation of image `index`.
    fn stream(&self, index: usize, part: &[u64]) -> Stream {
        Stream::new(&[&[self.seed, self.epoch, index as u64], part].concat())
    }

    /// Applies the list of transforms, and adds the times that they take.
    fn transform(
        &self,
        working: &mut Working,
        augmentation: &Augmentation,
        context: &mut Context<'_>,
        index: usize,
        times: &mut Vec<TransformTime>,
    ) -> Result<(), DataError> {
        for (position, transform) in augmentation.config.transforms.iter().enumerate() {
            if augmentation.closing && transform.is_strong() {
                continue;
            }
            let (mut random, started) = (self.stream(index, &[TRANSFORM, position as u64]), Instant::now());
            if transform.apply(working, context, &mut random)? {
                times.push(TransformTime { position, seconds: started.elapsed().as_secs_f64() });
            }
        }
        Ok(())
    }

    /// Changes the colours and chooses the geometry.
    fn jitter(&self, working: &mut Working, augment: &AugmentConfig, index: usize) -> Geometry {
        color::jitter(&mut working.image, &augment.color_jitter, &mut self.stream(index, &[COLOR]));
        let (size, mut random) = (working.size(), self.stream(index, &[GEOMETRY]));
        if working.sized {
            return Geometry::random_flips(size, augment, &mut random);
        }
        Geometry::random(&self.preprocess, size, augment, &mut random)
    }
}
