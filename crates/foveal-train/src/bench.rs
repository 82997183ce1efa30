//! Benchmarks (`foveal bench`): time of training steps, inference and losses on seeded random data, and speed of
//! loading a data set.

mod loading;

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use foveal_anchors::{ImageTargets, grid_sizes, image_targets};
use foveal_boxes::BBox;
use foveal_criterion::Normalizer;
use foveal_data::Stream;
use foveal_detector::{Checkpoint, ImageFrame, ModelConfig, RetinaNet, predict};
use foveal_kernels::class_loss;
use serde::Serialize;

use crate::config::{BenchConfig, RunConfig};
use crate::device::is_host;
use crate::error::TrainError;
use crate::update::{GradientOptions, Learner, Optimizer};

/// The phases that [`bench`](bench()) measures: training steps, inference, losses or data loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BenchPhases {
    /// All phases that need no data set, one after the other: `Train`, `Infer`, `Loss` and `Focal`.
    #[default]
    All,
    /// Training steps: forward pass, losses, backward pass and optimizer update.
    Train,
    /// Inference: forward pass and post-processing to detections.
    Infer,
    /// Class loss and box loss on random logits and deltas, forward and backward.
    Loss,
    /// Class loss alone on random logits, forward and backward.
    Focal,
    /// Loading batches of the training set of the configuration.
    Data,
}

/// The results of a benchmark. Times are in milliseconds, one for each step after the warm-up (`bench.warmup`); phases
/// that were not measured have empty lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BenchReport {
    /// Name of the device. [`bench`](bench()) leaves it empty, and the program fills it in.
    pub device: String,
    /// Number of CPU threads. [`bench`](bench()) leaves it 0, and the program fills it in.
    pub threads: usize,
    /// Number of images in a step; with [`BenchPhases::Data`] in a batch of the training set.
    pub batch: usize,
    /// Height of the random images in pixels.
    pub height: usize,
    /// Width of the random images in pixels.
    pub width: usize,
    /// Times of training steps in milliseconds: forward pass, losses, backward pass and optimizer update.
    pub train_step_ms: Vec<f64>,
    /// Times of inference on a batch in milliseconds: forward pass and post-processing.
    pub infer_ms: Vec<f64>,
    /// Times of class loss and box loss with their gradients in milliseconds.
    pub loss_ms: Vec<f64>,
    /// Largest resident memory of the process up to the end of the training steps, in MiB. -1 where training was not
    /// measured or the operating system does not report it (only Linux does).
    pub peak_rss_mb: f64,
    /// Times of the class loss alone with its gradient in milliseconds.
    pub focal_ms: Vec<f64>,
    /// Speed of the loading workers in images per second, one number for each pass over the training set.
    pub data_images_per_second: Vec<f64>,
}

/// Measures the time of the given phases on random images and boxes, which are the same in every run.
///
/// The sizes and the number of steps are those of `[bench]` in the configuration. Inference uses the network and the
/// thresholds of `detector` if it is given, and otherwise a network with seeded random weights.
///
/// # Errors
/// [`TrainError::Config`] for an invalid configuration, [`TrainError::Model`] when `model.weights` cannot be used. For
/// [`BenchPhases::Data`] also [`TrainError::Data`] or [`TrainError::Empty`] when the training set cannot be used.
///
/// # Panics
/// When the device fails while it is waited for.
pub fn bench(
    config: &RunConfig,
    device: &Device,
    phases: BenchPhases,
    detector: Option<&Checkpoint>,
) -> Result<BenchReport, TrainError> {
    config.validate()?;
    let bench = &config.bench;
    let wants = |phase| phases == BenchPhases::All || phases == phase;
    let mut report = BenchReport {
        batch: bench.batch_size,
        height: bench.height,
        width: bench.width,
        peak_rss_mb: -1.0,
        ..BenchReport::default()
    };
    if phases == BenchPhases::Data {
        report.batch = config.train.batch_size;
        report.data_images_per_second = loading::images_per_second(config)?;
        return Ok(report);
    }
    let inputs = Inputs::new(config, device);
    if wants(BenchPhases::Train) {
        report.train_step_ms = inputs.train(config)?;
        report.peak_rss_mb = peak_rss_mb().unwrap_or(-1.0);
    }
    if wants(BenchPhases::Infer) {
        report.infer_ms = inputs.infer(config, detector)?;
    }
    if wants(BenchPhases::Loss) {
        report.loss_ms = inputs.loss(config);
    }
    if wants(BenchPhases::Focal) {
        report.focal_ms = inputs.focal(config);
    }
    Ok(report)
}

/// The random inputs of a benchmark.
struct Inputs {
    /// Without autodiff.
    device: Device,
    /// `[batch, 3, height, width]`.
    images: Tensor<4>,
    /// Targets of each image.
    targets: Vec<ImageTargets>,
    /// Number of anchors in an image.
    anchors: usize,
}

impl Inputs {
    fn new(config: &RunConfig, device: &Device) -> Self {
        let b = &config.bench;
        let device = device.clone().without_autodiff();
        device.seed(config.train.seed);
        let images = Tensor::random([b.batch_size, 3, b.height, b.width], Distribution::Normal(0.0, 1.0), &device);
        let anchors = config.model.anchor_boxes(b.height, b.width, &grid_sizes(b.height, b.width));
        let mut random = Stream::new(&[config.train.seed]);
        let targets = (0..b.batch_size)
            .map(|_| {
                let objects: Vec<BBox> = (0..b.boxes).map(|_| random_object(&mut random, b)).collect();
                let classes: Vec<u32> = (0..b.boxes).map(|_| random.below(b.classes) as u32).collect();
                image_targets(&anchors.boxes, &objects, &classes, &[], &config.matcher)
            })
            .collect();
        Self { device, images, targets, anchors: anchors.boxes.len() }
    }

    /// Times of training steps in milliseconds. No losses are read from the device, as in training between two lines of
    /// the log.
    fn train(&self, config: &RunConfig) -> Result<Vec<f64>, TrainError> {
        let device = self.device.clone().autodiff();
        let model = build(&config.model, config.bench.classes, config.train.seed, &device)?;
        let mut learner = Learner::new(model, Optimizer::new(&config.train), None);
        let images = Tensor::from_inner(self.images.clone());
        let options = GradientOptions {
            loss: &config.loss,
            normalizer: Normalizer::of(config.loss.normalizer, &self.targets),
            anchors_per_location: config.model.anchors.anchors_per_location(),
            activations: config.train.activations(),
            // On a CPU, training computes the breakdown in every step.
            breakdown: is_host(&device),
            first_loss: None,
            clip_norm: config.train.clip_norm,
        };
        let lr = config.train.base_lr() * config.train.warmup_factor;
        Ok(times(&config.bench, &device, || {
            let gradients = learner.gradients([(images.clone(), self.targets.clone())], &options, &device);
            learner.apply(gradients, lr);
        }))
    }

    /// Times of inference in milliseconds.
    fn infer(&self, config: &RunConfig, detector: Option<&Checkpoint>) -> Result<Vec<f64>, TrainError> {
        let b = &config.bench;
        let (network, model, post) = match detector {
            Some(d) => (d.model.clone(), &d.meta.model, d.meta.post),
            None => {
                let network = build(&config.model, b.classes, config.train.seed, &self.device)?;
                (network, &config.model, config.eval.post())
            }
        };
        let network = network.valid();
        let frame = ImageFrame {
            width: b.width,
            height: b.height,
            original_width: b.width as u32,
            original_height: b.height as u32,
        };
        let frames = vec![frame; b.batch_size];
        let mut failed = None;
        let times = times(b, &self.device, || {
            failed = predict(&network, model, self.images.clone(), &frames, &post).err();
        });
        failed.map_or(Ok(times), |error| Err(TrainError::Model(error.into())))
    }

    /// Times of both losses with their gradients in milliseconds.
    fn loss(&self, config: &RunConfig) -> Vec<f64> {
        let device = self.device.clone().autodiff();
        let (batch, anchors) = (config.bench.batch_size, self.anchors);
        let noise = Distribution::Normal(0.0, 1.0);
        let logits = Tensor::<3>::random([batch, anchors, config.bench.classes], noise, &device);
        let deltas = Tensor::<3>::random([batch, anchors, 4], noise, &device);
        let (logits, deltas) = (logits.require_grad(), deltas.require_grad());
        let normalizer = Normalizer::of(config.loss.normalizer, &self.targets);
        times(&config.bench, &device, || {
            let losses = config.loss.forward(logits.clone(), deltas.clone(), &self.targets, normalizer);
            let gradients = losses.total.backward();
            let _ = logits.grad(&gradients);
        })
    }

    /// Times of the class loss with its gradient in milliseconds.
    fn focal(&self, config: &RunConfig) -> Vec<f64> {
        let device = self.device.clone().autodiff();
        let rows = config.bench.batch_size * self.anchors;
        let noise = Distribution::Normal(0.0, 1.0);
        let logits = Tensor::<2>::random([rows, config.bench.classes], noise, &device).require_grad();
        let classes: Vec<i32> = self.targets.iter().flat_map(|t| t.classes.iter().copied()).collect();
        let classes = Tensor::<1, Int>::from_data(TensorData::new(classes, [rows]), &device);
        times(&config.bench, &device, || {
            let loss = class_loss(logits.clone(), classes.clone(), config.loss.class_params()).loss;
            let _ = logits.grad(&loss.backward());
        })
    }
}

/// A box whose sides are 5 % to 50 % of the image's sides.
fn random_object(random: &mut Stream, bench: &BenchConfig) -> BBox {
    let (width, height) = (bench.width as f32, bench.height as f32);
    let (w, h) = (width * random.range(0.05, 0.5), height * random.range(0.05, 0.5));
    let (x, y) = ((width - w) * random.uniform(), (height - h) * random.uniform());
    BBox::new(x, y, x + w, y + h)
}

/// The network to measure. Without `model.weights` it has seeded weights, even with frozen norms, which training allows
/// only with a weight file: the time does not depend on the values.
fn build(model: &ModelConfig, classes: usize, seed: u64, device: &Device) -> Result<RetinaNet, TrainError> {
    if model.weights.is_some() {
        return Ok(model.build(classes, seed, device)?.model);
    }
    let mut network = model.seeded(classes, 0, device);
    network.backbone.body = network.backbone.body.freeze_stages(model.freeze_stages);
    Ok(network)
}

/// Runs `step` for the warm-up and the timed steps and waits for the device after each. Returns the times of the timed
/// steps in milliseconds.
fn times(bench: &BenchConfig, device: &Device, mut step: impl FnMut()) -> Vec<f64> {
    let mut times = Vec::with_capacity(bench.steps);
    for i in 0..bench.warmup + bench.steps {
        let started = Instant::now();
        step();
        device.sync().expect("the device works");
        if i >= bench.warmup {
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    times
}

/// Largest resident memory of the process in MiB: `VmHWM` of `/proc/self/status` on Linux, `None` elsewhere.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}
