//! Worker threads that make batches ahead of the model, in order.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use foveal_anchors::{AnchorConfig, Anchors, ImageTargets, MatcherConfig, grid_sizes};
use foveal_image::{ImageFrame, PaddedBatch, pad_staged};

use crate::sample::{Sample, SampleMaker};
use crate::sampler::epoch_order;
use crate::{DataConfig, DataError, Dataset, OnError, Problem, Skipped, Stream};

/// Padded sizes whose anchors are kept; at 800 pixels one takes some 3 MB.
const CACHED_SIZES: usize = 16;
/// So many other images are tried in place of one that cannot be loaded.
const REPLACEMENTS: u64 = 10;
/// Separates the replacements' random stream from those of the samples.
const REPLACE: u64 = 12;

/// Where an image of a batch comes from and what became of its size.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageInfo {
    /// Position in the data set.
    pub index: usize,
    /// The image's COCO id.
    pub image_id: i64,
    /// Sizes before and after resizing.
    pub frame: ImageFrame,
}

/// What one step of the model needs.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// `[batch, 3, height, width]`.
    pub images: PaddedBatch,
    /// The targets of each image.
    pub targets: Vec<ImageTargets>,
    /// The origin of each image.
    pub info: Vec<ImageInfo>,
    /// Images that could not be loaded (`on_error = "skip"`): replaced while training, else left out.
    pub skipped: Vec<Skipped>,
    /// Seconds that a worker took to make the batch.
    pub load_seconds: f64,
}

/// How a set is gone through. The number of threads and of waiting batches is `data.workers` and `data.queue`.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Images of a batch; the last batch may have fewer.
    pub batch_size: usize,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Whether images are shuffled and augmented.
    pub training: bool,
    /// The anchors that targets are assigned to.
    pub anchors: AnchorConfig,
    /// The rule by which anchors and objects are matched.
    pub matcher: MatcherConfig,
}

/// Batches in order; the same for any number of workers. Dropping it stops them.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    delivered: usize,
    failed: bool,
    waited: Duration,
}

/// Starts the workers of one epoch. Order and augmentation depend on the seed, the epoch and the index alone.
///
/// # Panics
/// The batch size is 0.
pub fn loader(dataset: Arc<Dataset>, config: &DataConfig, options: LoaderOptions, epoch: u64) -> Loader {
    assert!(options.batch_size > 0, "a batch of no images");
    let order: Vec<usize> = if options.training {
        epoch_order(&dataset, config, options.seed, epoch)
    } else {
        (0..dataset.len()).collect()
    };
    let batches: Vec<Vec<usize>> = order.chunks(options.batch_size).map(<[usize]>::to_vec).collect();
    let workers = config.worker_count().min(batches.len());
    let shared = Arc::new(Shared {
        maker: SampleMaker::new(config, options.training, options.seed, epoch),
        on_error: config.on_error,
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
    /// The number of batches of the epoch.
    pub fn batches(&self) -> usize {
        self.shared.batches.len()
    }

    /// How long the caller has waited for data so far.
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
        match batch {
            // Nothing of it could be loaded.
            Ok(batch) if batch.info.is_empty() => self.next(),
            Ok(batch) => Some(Ok(batch)),
            Err(error) => {
                self.failed = true;
                lock(&self.shared.progress).stopped = true;
                self.shared.changed.notify_all();
                Some(Err(error))
            }
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        lock(&self.shared.progress).stopped = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker's panic was caught and delivered as an error.
            let _ = worker.join();
        }
    }
}

/// What workers and consumer share.
struct Shared {
    dataset: Arc<Dataset>,
    maker: SampleMaker,
    on_error: OnError,
    options: LoaderOptions,
    batches: Vec<Vec<usize>>,
    /// Batches that may be begun beyond the one that is wanted next.
    ahead: usize,
    anchors: Mutex<HashMap<(usize, usize), Arc<Anchors>>>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    begun: usize,
    delivered: usize,
    ready: BTreeMap<usize, Result<Batch, DataError>>,
    stopped: bool,
}

/// A panic while the lock was held cannot leave the plain values behind it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn work(&self) {
        while let Some(task) = self.next_task() {
            let made = catch_unwind(AssertUnwindSafe(|| self.make(&self.batches[task])));
            let made = made.unwrap_or_else(|panic| Err(DataError::Worker(panic_text(panic.as_ref()))));
            lock(&self.progress).ready.insert(task, made);
            self.changed.notify_all();
        }
    }

    /// Waits until there is room in the queue; `None` at the end.
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
        let (images, placed): (Vec<_>, Vec<_>) = samples.into_iter().map(|s| (s.image, s.placed)).unzip();
        let images = pad_staged(&images, &self.maker.preprocess);
        let targets = if images.batch > 0 {
            let anchors = self.anchors(images.height, images.width);
            let matcher = &self.options.matcher;
            placed.iter().map(|placed| placed.targets(&anchors.boxes, matcher)).collect()
        } else {
            Vec::new()
        };
        Ok(Batch { images, targets, info, skipped, load_seconds: started.elapsed().as_secs_f64() })
    }

    /// The sample of an image, or where it cannot be loaded and `on_error` allows: another's while training, none else.
    fn sample(&self, index: usize, skipped: &mut Vec<Skipped>) -> Result<Option<Sample>, DataError> {
        let SampleMaker { seed, epoch, .. } = self.maker;
        let mut random = Stream::new(&[seed, epoch, index as u64, REPLACE]);
        let mut wanted = index;
        for _ in 0..=REPLACEMENTS {
            match self.maker.make(&self.dataset, wanted) {
                Ok(sample) => return Ok(Some(sample)),
                Err(error) if self.on_error == OnError::Fail => return Err(error),
                Err(error) => skipped.push(Skipped {
                    image_id: self.dataset.record(wanted).image_id,
                    annotation_id: None,
                    problem: Problem::BrokenImage,
                    reason: error.to_string(),
                }),
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

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".to_owned())
}
