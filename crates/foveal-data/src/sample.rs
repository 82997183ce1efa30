//! One image of a batch: loaded, augmented and resized, with its objects.

use std::sync::Arc;
use std::time::Instant;

use foveal_image::{Preprocess, ResizeMode, Staged};

use crate::augment::{Geometry, PlacedObjects, Size};
use crate::cache::{self, ImageCache, Stage};
use crate::labels::Labels;
use crate::transforms::{Context, Frame, ObjectIndex, TransformTime, Working};
use crate::{
    AugmentConfig, ColorJitter, DataConfig, DataError, Dataset, LoaderOptions, OnError, Skipped, Stream, Transform,
    color,
};

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
    /// The cache of decoded and resized images.
    cache: Option<Arc<ImageCache>>,
    /// Whether images are flipped and resized before anything else, to a size that does not depend on random values.
    resizes_first: bool,
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

/// Keys that separate the random streams of geometry, colour and transforms, so that turning one off does not change
/// the others. The stream of a transform has its position in the list as a further key.
const GEOMETRY: u64 = 1;
const COLOR: u64 = 2;
const TRANSFORM: u64 = 3;

impl SampleMaker {
    /// Creates the maker of an epoch's samples. Images are augmented only in training. `epoch` counts from 0.
    pub(crate) fn new(
        dataset: &Dataset,
        config: &DataConfig,
        options: &LoaderOptions,
        epoch: u64,
        cache: Option<Arc<ImageCache>>,
    ) -> Self {
        let preprocess = config.preprocess();
        let pastes = config.augment.transforms.iter().any(|t| matches!(t, Transform::CopyPaste(_)));
        let augment = options.training.then(|| Augmentation {
            config: config.augment.clone(),
            closing: config.augment.is_closing(epoch, options.epochs),
            frame: Frame::new(&preprocess, &config.augment),
            objects: if pastes { ObjectIndex::new(dataset.records()) } else { ObjectIndex::default() },
        });
        let LoaderOptions { seed, .. } = *options;
        let resizes_first = preprocess.resize == ResizeMode::Antialias
            && augment.as_ref().is_none_or(|augmentation| only_flips(&augmentation.config));
        let (min_box, on_error) = (config.min_box, config.on_error);
        Self { preprocess, augment, min_box, on_error, seed, epoch, cache, resizes_first }
    }

    /// Loads, augments and resizes image `index` and its objects. Other images that a transform needs and that cannot
    /// be loaded are added to `skipped` if `data.on_error` is `skip`.
    ///
    /// # Errors
    /// The error of [`Dataset::load`] if the image cannot be loaded, or if another one cannot that a transform needs
    /// and `data.on_error` is `fail`.
    pub(crate) fn make(
        &self,
        dataset: &Dataset,
        index: usize,
        skipped: &mut Vec<Skipped>,
    ) -> Result<Sample, DataError> {
        if let Some(sample) = self.resized(dataset, index)? {
            return Ok(sample);
        }
        let image = cache::load(self.cache.as_deref(), dataset, index)?;
        let mut working = Working { image, labels: Labels::from(dataset.record(index)), sized: false };
        let mut times = Vec::new();
        let geometry = match &self.augment {
            None => Geometry::plain(&self.preprocess, working.size()),
            Some(augmentation) => {
                let mut context = Context::new(dataset, &augmentation.frame, &augmentation.objects, self.on_error)
                    .with_cache(self.cache.as_deref());
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

    /// The sample of an image that is first of all resized, to at most half of its pixels, so that the cache keeps it
    /// in that size. `None` for other images, and without a cache.
    ///
    /// # Errors
    /// The error of [`Dataset::load`] if the image cannot be loaded.
    fn resized(&self, dataset: &Dataset, index: usize) -> Result<Option<Sample>, DataError> {
        let Some(cache) = self.cache.as_deref().filter(|_| self.resizes_first) else { return Ok(None) };
        let record = dataset.record(index);
        let size = Size { width: record.width, height: record.height };
        let geometry = match &self.augment {
            None => Geometry::plain(&self.preprocess, size),
            Some(augmentation) => self.geometry(size, &augmentation.config, index),
        };
        if 2 * geometry.resized.pixels() > size.pixels() {
            return Ok(None);
        }
        let stage =
            Stage::Resized { size: geometry.resized, flips: [geometry.flip_horizontal, geometry.flip_vertical] };
        let image = cache.get_or_make(dataset, index, (stage, geometry.resized), || {
            match geometry.apply(dataset.load(index)?, &self.preprocess) {
                Staged::Bytes { image, .. } => Ok(image),
                Staged::Prepared(_) => unreachable!("the pixels of an antialiased image are bytes"),
            }
        })?;
        Ok(Some(Sample {
            index,
            image: Staged::Bytes { image, original_width: size.width, original_height: size.height },
            placed: geometry.place(size, &Labels::from(record), self.min_box),
            times: Vec::new(),
        }))
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
        if working.sized {
            return Geometry::random_flips(working.size(), augment, &mut self.stream(index, &[GEOMETRY]));
        }
        self.geometry(working.size(), augment, index)
    }

    /// The random geometry of an image of this size.
    fn geometry(&self, size: Size, augment: &AugmentConfig, index: usize) -> Geometry {
        Geometry::random(&self.preprocess, size, augment, &mut self.stream(index, &[GEOMETRY]))
    }
}

/// Whether flips are all that changes images at random.
fn only_flips(augment: &AugmentConfig) -> bool {
    augment.transforms.is_empty()
        && augment.min_sizes.is_empty()
        && augment.scale_jitter == [1.0, 1.0]
        && augment.color_jitter == ColorJitter::default()
}
