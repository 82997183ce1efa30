//! Worker threads that prepare batches in advance and deliver them in order.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use foveal_anchors::{AnchorConfig, Anchors, ImageTargets, MatchedImage, MatcherConfig, grid_sizes};
use foveal_image::{ImageBatch, ImageFrame};

use crate::augment::PlacedObjects;
use crate::grouping::epoch_batches;
use crate::sample::{Sample, SampleMaker};
use crate::transforms::{REPLACEMENTS, unloadable};
use crate::{DataConfig, DataError, Dataset, ImageCache, ObjectCounts, OnError, Skipped, Stream, TransformTime};

/// Number of padded image sizes whose anchors are cached. The anchors of one size of 800 pixels take about 3 MB.
const CACHED_SIZES: usize = 16;
/// Key that separates the random stream of the replacements from those of the samples.
const REPLACE: u64 = 12;

/// The origin of an image of a batch: its index, its id and its sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageInfo {
    /// Index of the image in the data set, from 0.
    pub index: usize,
    /// The COCO id of the image.
    pub image_id: i64,
    /// Sizes of the image in pixels before and after resizing, without padding.
    pub frame: ImageFrame,
}

/// One batch: images and their training targets.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The images, padded to one size. Their pixels are bytes if those of all images are bytes after resizing and
    /// augmentation, and normalised values otherwise.
    pub images: ImageBatch,
    /// The targets of each image, one entry per image of the batch. The anchors are those of the padded size.
    pub targets: Vec<ImageTargets>,
    /// Numbers of objects of all images, with and without anchors.
    pub objects: ObjectCounts,
    /// The objects and ignored regions of each image that the targets were computed from, one entry per image of the
    /// batch.
    pub placed: Vec<PlacedObjects>,
    /// The origin of each image, one entry per image of the batch.
    pub info: Vec<ImageInfo>,
    /// The images that could not be loaded, with `data.on_error = "skip"`. In training they are replaced by other
    /// images, otherwise they are left out of the batch.
    pub skipped: Vec<Skipped>,
    /// Times of the transforms (`data.augment.transforms`) that were applied to the images of the batch.
    pub transform_times: Vec<TransformTime>,
    /// Time in seconds that a loading thread needed to prepare the batch.
    pub load_seconds: f64,
}

/// Options of [`loader`]. The numbers of threads and of batches prepared in advance are `data.workers` and `data.queue`
/// of the configuration.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Number of images per batch, at least 1. The last batch of an epoch can have fewer.
    pub batch_size: usize,
    /// Seed of the order of the images and of the augmentation.
    pub seed: u64,
    /// Whether images are sampled, shuffled and augmented. Otherwise each image is used once, in the order of the data
    /// set.
    pub training: bool,
    /// The anchors that are matched with the objects.
    pub anchors: AnchorConfig,
    /// The rule that matches anchors with objects.
    pub matcher: MatcherConfig,
    /// Number of batches at the start of the epoch that are left out, so that an epoch can be continued in its middle.
    /// The other batches are those of the whole epoch.
    pub first: usize,
    /// Number of epochs of the run, whose last `data.augment.close_epochs` leave out the strong transforms. `None` if
    /// no epoch is one of the last.
    pub epochs: Option<usize>,
}

/// An iterator over the batches of one epoch, made by [`loader`]. The batches and their order do not depend on the
/// number of loading threads. A batch of which no image could be loaded is delivered without images, together with the
/// reasons. After an error the iterator ends. Dropping the loader stops its threads.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    delivered: usize,
    failed: bool,
    waited: Duration,
}

/// Starts the loading threads of one epoch and returns an iterator over its batches. The order of the images and their
/// augmentation depend only on the seed, the epoch and the index of the image.
///
/// The items are `Result`s. With `data.on_error = "fail"`, an image that cannot be loaded gives [`DataError::Image`] or
/// [`DataError::Size`]; a panic in a thread gives [`DataError::Worker`].
///
/// # Panics
/// If the batch size is 0, or if a threshold of the sampler is not positive.
pub fn loader(dataset: Arc<Dataset>, config: &DataConfig, options: LoaderOptions, epoch: u64) -> Loader {
    cached_loader(dataset, config, options, epoch, None)
}

/// Starts the loading threads of one epoch as [`loader`] does, with a cache of decoded and resized images
/// ([`ImageCache::open`]), which the loaders of a run share. The batches are the same with and without it.
///
/// # Panics
/// If the batch size is 0, or if a threshold of the sampler is not positive.
pub fn cached_loader(
    dataset: Arc<Dataset>,
    config: &DataConfig,
    options: LoaderOptions,
    epoch: u64,
    cache: Option<Arc<ImageCache>>,
) -> Loader {
    let LoaderOptions { batch_size, seed, .. } = options;
    assert!(batch_size > 0, "the batch size must be at least 1");
    let mut batches = if options.training {
        epoch_batches(&dataset, config, batch_size, seed, epoch)
    } else {
        let order: Vec<usize> = (0..dataset.len()).collect();
        order.chunks(batch_size).map(<[usize]>::to_vec).collect()
    };
    batches.drain(..options.first.min(batches.len()));
    let workers = config.worker_count().min(batches.len());
    let shared = Arc::new(Shared {
        maker: SampleMaker::new(&dataset, config, &options, epoch, cache),
        ahead: workers + config.queue,
        dataset,
        batches,
        options,
        anchors: Mutex::default(),
        progress: Mutex::default(),
        changed: Condvar::new(),
    });
    let start = |_| {
        let shared = Arc::clone(&shared);
        std::thread::spawn(move || shared.work())
    };
    let workers = (0..workers).map(start).collect();
    Loader { shared, workers, delivered: 0, failed: false, waited: Duration::ZERO }
}

impl Loader {
    /// Returns the number of batches that this loader delivers: those of the epoch without the first
    /// [`LoaderOptions::first`].
    pub fn batches(&self) -> usize {
        self.shared.batches.len()
    }

    /// Returns the number of batches that are still to be delivered.
    pub fn remaining(&self) -> usize {
        self.batches() - self.delivered
    }

    /// Returns the position in the epoch: the number of its batches before the next one to be delivered.
    pub fn position(&self) -> usize {
        self.shared.options.first + self.delivered
    }

    /// Returns the time that the caller has waited for batches so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.delivered == self.batches() {
            return None;
        }
        let started = Instant::now();
        let mut progress = lock(&self.shared.progress);
        let batch = loop {
            if let Some(batch) = progress.ready.remove(&self.delivered) {
                break batch;
            }
            progress = self.shared.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        };
        self.delivered += 1;
        progress.delivered = self.delivered;
        drop(progress);
        self.shared.changed.notify_all();
        self.waited += started.elapsed();
        if batch.is_err() {
            self.failed = true;
            lock(&self.shared.progress).stopped = true;
            self.shared.changed.notify_all();
        }
        Some(batch)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        lock(&self.shared.progress).stopped = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // The panic of a worker was caught before and delivered as an error.
            let _ = worker.join();
        }
    }
}

/// The state that the loading threads and the consumer share.
struct Shared {
    dataset: Arc<Dataset>,
    maker: SampleMaker,
    options: LoaderOptions,
    batches: Vec<Vec<usize>>,
    /// Number of batches that may be started in advance of the next one to be delivered.
    ahead: usize,
    anchors: Mutex<HashMap<(usize, usize), Arc<Anchors>>>,
    progress: Mutex<QueueState>,
    changed: Condvar,
}

/// The batches that were started, finished and delivered.
#[derive(Default)]
struct QueueState {
    /// Number of batches that a worker has started.
    begun: usize,
    /// Number of batches that the consumer has taken.
    delivered: usize,
    /// Finished batches that the consumer has not taken, by their position in the epoch.
    ready: BTreeMap<usize, Result<Batch, DataError>>,
    stopped: bool,
}

/// Locks a mutex. The lock of a thread that panicked is taken too, since no panic can leave the values half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Makes batches until none are left; the body of a loading thread.
    fn work(&self) {
        while let Some(task) = self.next_task() {
            let made = catch_unwind(AssertUnwindSafe(|| self.make(&self.batches[task])));
            let made = made.unwrap_or_else(|panic| Err(DataError::Worker(panic_text(panic.as_ref()))));
            lock(&self.progress).ready.insert(task, made);
            self.changed.notify_all();
        }
    }

    /// Waits until another batch may be started and returns its position. `None` after the last batch.
    fn next_task(&self) -> Option<usize> {
        let mut progress = lock(&self.progress);
        loop {
            if progress.stopped || progress.begun == self.batches.len() {
                return None;
            }
            if progress.begun < progress.delivered + self.ahead {
                progress.begun += 1;
                return Some(progress.begun - 1);
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes the batch of these images.
    fn make(&self, indices: &[usize]) -> Result<Batch, DataError> {
        let started = Instant::now();
        let mut skipped = Vec::new();
        let mut samples = Vec::with_capacity(indices.len());
        for &index in indices {
            if lock(&self.progress).stopped {
                return Ok(Batch::default());
            }
            samples.extend(self.sample(index, &mut skipped)?);
        }
        let info = samples.iter().map(|s| self.info(s)).collect();
        let transform_times = samples.iter().flat_map(|s| s.times.iter().copied()).collect();
        let (images, placed): (Vec<_>, Vec<_>) = samples.into_iter().map(|s| (s.image, s.placed)).unzip();
        let images = ImageBatch::stack(&images, &self.maker.preprocess);
        let mut objects = ObjectCounts::default();
        let targets = if images.batch() > 0 {
            let anchors = self.anchors(images.height(), images.width());
            placed.iter().map(|placed| self.targets(placed, &anchors, &mut objects)).collect()
        } else {
            Vec::new()
        };
        let load_seconds = started.elapsed().as_secs_f64();
        Ok(Batch { images, targets, placed, objects, info, skipped, transform_times, load_seconds })
    }

    /// Matches the anchors of an image with its objects, and adds the numbers of its objects to `objects`.
    fn targets(&self, placed: &PlacedObjects, anchors: &Anchors, objects: &mut ObjectCounts) -> ImageTargets {
        let MatchedImage { targets, without_anchor } = placed.targets(anchors, &self.options.matcher);
        *objects += ObjectCounts { objects: placed.boxes.len(), without_anchor: without_anchor.len() };
        targets
    }

    /// Makes the sample of an image. If the image cannot be loaded and `on_error` is `skip`, the result is a sample of
    /// another image in training, otherwise `None`.
    fn sample(&self, index: usize, skipped: &mut Vec<Skipped>) -> Result<Option<Sample>, DataError> {
        let SampleMaker { seed, epoch, on_error, .. } = self.maker;
        let mut random = Stream::new(&[seed, epoch, index as u64, REPLACE]);
        let mut wanted = index;
        for _ in 0..=REPLACEMENTS {
            match self.maker.make(&self.dataset, wanted, skipped) {
                Ok(sample) => return Ok(Some(sample)),
                Err(error) if on_error == OnError::Fail => return Err(error),
                Err(error) => skipped.push(unloadable(&self.dataset, wanted, &error)),
            }
            if !self.options.training {
                return Ok(None);
            }
            wanted = random.below(self.dataset.len());
        }
        Ok(None)
    }

    fn info(&self, sample: &Sample) -> ImageInfo {
        ImageInfo {
            index: sample.index,
            image_id: self.dataset.record(sample.index).image_id,
            frame: sample.image.frame(),
        }
    }

    /// The anchors of a padded size in pixels, from the cache if possible.
    fn anchors(&self, height: usize, width: usize) -> Arc<Anchors> {
        if let Some(anchors) = lock(&self.anchors).get(&(height, width)) {
            return Arc::clone(anchors);
        }
        let anchors = Arc::new(self.options.anchors.anchors(height, width, &grid_sizes(height, width)));
        let mut cache = lock(&self.anchors);
        if cache.len() >= CACHED_SIZES {
            cache.clear();
        }
        cache.insert((height, width), Arc::clone(&anchors));
        anchors
    }
}

/// The message of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".to_owned())
}
