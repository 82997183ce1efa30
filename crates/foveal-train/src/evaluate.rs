//! Evaluation of a network on a data set: detections, COCO metrics and losses.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use foveal_anchors::MatcherConfig;
use foveal_coco::{CocoDetection, bbox_to_xywh};
use foveal_criterion::{LossConfig, Normalizer, NormalizerKind};
use foveal_data::{Batch, DataConfig, Dataset, ImageCache, ImageInfo, Loader, LoaderOptions, Skipped, cached_loader};
use foveal_detector::{
    ComputePrecision, Detection, ImageFrame, ModelConfig, NonFiniteOutput, RetinaNet, image_tensor, postprocess_with,
};
use foveal_eval::Scored;

use crate::config::{EvalConfig, RunConfig};
use crate::error::TrainError;
use crate::memory::{Demand, DeviceLimits, largest_input};
use crate::run::{Evaluation, MeanLosses, Progress};

/// Evaluates networks of one configuration on one data set.
#[derive(Clone, Debug)]
pub struct Evaluator {
    model: ModelConfig,
    dataset: Arc<Dataset>,
    data: DataConfig,
    eval: EvalConfig,
    loss: LossConfig,
    matcher: MatcherConfig,
    device: Device,
    precision: ComputePrecision,
    cache: Option<Arc<ImageCache>>,
}

impl Evaluator {
    /// An evaluator on `dataset`, which must have the categories of the networks that `model` describes. Preprocessing,
    /// thresholds, losses and anchor matching are those of `config`; its `[model]` section is not used. `device` may
    /// have autodiff, which evaluation does not use.
    pub fn new(config: &RunConfig, model: &ModelConfig, dataset: Arc<Dataset>, device: &Device) -> Self {
        Self {
            model: model.clone(),
            dataset,
            data: config.data.clone(),
            eval: config.eval,
            loss: config.loss.clone(),
            matcher: config.matcher,
            device: device.clone().without_autodiff(),
            precision: ComputePrecision::F32,
            cache: None,
        }
    }

    /// The same evaluator with convolutions and feature maps in another precision than f32, which the device must
    /// support ([`ComputePrecision::check`]).
    #[must_use]
    pub fn with_precision(self, precision: ComputePrecision) -> Self {
        Self { precision, ..self }
    }

    /// The same evaluator with a cache of decoded and resized images.
    #[must_use]
    pub(crate) fn with_cache(self, cache: Option<Arc<ImageCache>>) -> Self {
        Self { cache, ..self }
    }

    /// Evaluates `network`, which must not have autodiff (`Module::valid`), on the whole data set. Returns `None` if
    /// `stop` was set before the last batch was done.
    ///
    /// Warnings about skipped images and the likely cause of metrics near zero are reported to `progress`.
    ///
    /// # Errors
    /// [`TrainError::Data`] when an image cannot be loaded, [`TrainError::TooManySkipped`] when more images cannot be
    /// loaded than `data.max_skipped` allows, [`TrainError::NonFiniteOutput`] when the network's output for an image is
    /// NaN or infinite, [`TrainError::DoesNotFit`] when a batch is too large for the device, [`TrainError::Eval`] when
    /// the detections cannot be evaluated against the ground truth.
    ///
    /// # Panics
    /// When `network` does not fit the model configuration of this evaluator.
    pub fn run(
        &self,
        network: &RetinaNet,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Option<Evaluation>, TrainError> {
        self.fits_on_device()?;
        let batches = self.batches();
        progress.evaluation_start(batches.batches());
        let (mut found, mut left_out) = (Found::default(), HashSet::new());
        for batch in batches {
            let mut batch = batch?;
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.leave_out(std::mem::take(&mut batch.skipped), &mut left_out, progress)?;
            if !batch.info.is_empty() {
                self.detect(network, batch, &mut found)?;
            }
            progress.evaluation_step();
        }
        let Found { sums, detections } = found;
        // The objects of images that could not be loaded do not count as missed.
        let truth = match left_out.is_empty() {
            true => Cow::Borrowed(self.dataset.coco()),
            false => Cow::Owned(self.dataset.coco_without(&left_out)),
        };
        let Scored { metrics, near_zero, .. } = foveal_eval::score(&truth, &detections)?;
        if let Some(reason) = near_zero {
            progress.message(&format!("warning: {reason}"));
        }
        let (images, losses) = (sums.images, sums.mean(&self.loss));
        let mut left_out_images: Vec<i64> = left_out.into_iter().collect();
        left_out_images.sort_unstable();
        let left_out = left_out_images.len();
        Ok(Some(Evaluation { metrics, losses, images, left_out, left_out_images, detections }))
    }

    /// Evaluates `network` on the first images until `seconds` seconds have passed and three batches are done, and
    /// returns how long the whole data set is expected to take, in seconds. Images that cannot be loaded are left out,
    /// and the results are dropped.
    ///
    /// # Errors
    /// [`TrainError::Data`] when an image cannot be loaded, [`TrainError::NonFiniteOutput`] when the network's output
    /// for an image is NaN or infinite, [`TrainError::Eval`] when the detections cannot be evaluated.
    pub(crate) fn time(&self, network: &RetinaNet, seconds: f64) -> Result<f64, TrainError> {
        const FEWEST: usize = 3;
        let batches = self.batches();
        let total = batches.batches();
        let mut found = Found::default();
        let mut seen = HashSet::new();
        // The first batch waits for the first images, and on a GPU its kernels are tuned.
        let (begun, mut first, mut done) = (Instant::now(), Duration::ZERO, 0);
        for batch in batches {
            let batch = batch?;
            seen.extend(batch.info.iter().map(|info| info.image_id));
            if !batch.info.is_empty() {
                self.detect(network, batch, &mut found)?;
            }
            done += 1;
            if done == 1 {
                first = begun.elapsed();
            }
            if done >= FEWEST && begun.elapsed().as_secs_f64() >= seconds {
                break;
            }
        }
        let others = (begun.elapsed() - first).as_secs_f64();
        let batch = if done > 1 { others / (done - 1) as f64 } else { first.as_secs_f64() };
        let begun = Instant::now();
        let rest = self.dataset.records().iter().map(|record| record.image_id).filter(|id| !seen.contains(id));
        foveal_eval::score(&self.dataset.coco_without(&rest.collect()), &found.detections)?;
        let images = (self.dataset.len() as f64 / seen.len().max(1) as f64).max(1.0);
        Ok(batch * total as f64 + begun.elapsed().as_secs_f64() * images)
    }

    /// The batches of the data set.
    fn batches(&self) -> Loader {
        let options = LoaderOptions {
            batch_size: self.eval.batch_size,
            seed: 0,
            training: false,
            anchors: self.model.anchors.clone(),
            matcher: self.matcher,
            first: 0,
            epochs: None,
        };
        cached_loader(Arc::clone(&self.dataset), &self.data, options, 0, self.cache.clone())
    }

    /// Adds the losses and detections of a batch, which has at least one image, to `into`.
    fn detect(&self, network: &RetinaNet, batch: Batch, into: &mut Found) -> Result<(), TrainError> {
        let Batch { images, mut targets, info, .. } = batch;
        let frames: Vec<ImageFrame> = info.iter().map(|info| info.frame).collect();
        let (height, width) = (images.height(), images.width());
        let dense = network.forward(self.precision.cast(image_tensor(images, &self.device)));
        let anchors = self.model.anchor_boxes(height, width, &dense.grids);
        let channels = self.model.class_channels.as_ref();
        if let Some(channels) = channels {
            channels.retarget(&mut targets);
        }
        let normalizer = match self.loss.normalizer {
            NormalizerKind::Batch | NormalizerKind::Ema => Normalizer::Positives(1),
            NormalizerKind::PerImage => Normalizer::Images(1),
        };
        let losses = self.loss.forward(dense.logits.clone(), dense.deltas.clone(), &targets, normalizer);

        // Waits for the device once, to read what the detections need together with both losses.
        let scalars = [losses.class, losses.boxes];
        let (found, [class, boxes]) = postprocess_with(&dense, &anchors, &frames, &self.eval.post(), channels, scalars)
            .map_err(|error| self.non_finite(&error, &info))?;
        for (found, info) in found.into_iter().zip(&info) {
            into.detections.extend(found.iter().map(|d| self.as_coco(d, info.image_id)));
        }
        into.sums.add(class, boxes, losses.positives, targets.len());
        Ok(())
    }

    /// Compares the largest batch with the limits of the device.
    ///
    /// # Errors
    /// [`TrainError::DoesNotFit`] when it is too large.
    fn fits_on_device(&self) -> Result<(), TrainError> {
        let limits = DeviceLimits::of(&self.device);
        if limits.is_empty() {
            return Ok(());
        }
        let (batch, images) = (self.eval.batch_size, self.dataset.len());
        let size = largest_input(self.dataset.records(), &self.data, false, batch.min(images));
        let classes = self.dataset.label_map().categories().len();
        let demand = Demand::of_inference(&self.model, classes, size, self.precision);
        Ok(demand.check_of_set("eval.batch_size", batch, images, limits)?)
    }

    /// Reports images that could not be loaded and adds their ids to `left_out`.
    ///
    /// # Errors
    /// [`TrainError::TooManySkipped`] when they are more than `data.max_skipped` allows.
    fn leave_out(
        &self,
        skipped: Vec<Skipped>,
        left_out: &mut HashSet<i64>,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let limit = self.data.skip_limit(self.dataset.len());
        for Skipped { image_id, reason, .. } in skipped {
            progress.message(&format!("warning: image left out, because it could not be loaded: {reason}"));
            left_out.insert(image_id);
            if left_out.len() > limit {
                let (skipped, images) = (left_out.len(), self.dataset.len());
                return Err(TrainError::TooManySkipped { set: "validation", skipped, images, limit, first: reason });
            }
        }
        Ok(())
    }

    /// The error of images whose output is NaN or infinite.
    fn non_finite(&self, error: &NonFiniteOutput, info: &[ImageInfo]) -> TrainError {
        let images = error.images.iter().map(|&image| {
            let ImageInfo { index, image_id, .. } = info[image];
            format!("{} (id {image_id})", self.dataset.record(index).file_name)
        });
        TrainError::NonFiniteOutput { images: images.collect() }
    }

    /// A detection as an entry of a COCO results file.
    fn as_coco(&self, d: &Detection, image_id: i64) -> CocoDetection {
        CocoDetection {
            image_id,
            category_id: self.dataset.label_map().category(d.class).id,
            bbox: bbox_to_xywh(&d.bbox),
            score: f64::from(d.score),
        }
    }
}

/// What the batches of an evaluation gave so far.
#[derive(Default)]
struct Found {
    sums: LossSums,
    detections: Vec<CocoDetection>,
}

/// Sums of the losses over the data set, before they are divided by the normalizer.
#[derive(Default)]
struct LossSums {
    class: f64,
    boxes: f64,
    positives: usize,
    images: usize,
}

impl LossSums {
    /// Adds the losses of a batch of `images` images, with a normalizer of 1.
    fn add(&mut self, class: f32, boxes: f32, positives: usize, images: usize) {
        self.class += f64::from(class);
        self.boxes += f64::from(boxes);
        self.positives += positives;
        self.images += images;
    }

    fn mean(&self, loss: &LossConfig) -> MeanLosses {
        let count = match loss.normalizer {
            NormalizerKind::Batch | NormalizerKind::Ema => self.positives,
            NormalizerKind::PerImage => self.images,
        };
        let count = count.max(1) as f64;
        let (class, boxes) = (self.class / count, self.boxes / count);
        MeanLosses { class, boxes, total: class + loss.box_weight * boxes }
    }
}
