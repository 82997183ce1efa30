//! `foveal bench`: a training step, inference and the loss alone on seeded random data; loading on a set.

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

/// What to time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BenchPhases {
    /// One after the other, all that need no data set.
    #[default]
    All,
    /// Forward, loss, backward, update.
    Train,
    /// Forward and post-processing.
    Infer,
    /// Both losses, forward and backward.
    Loss,
    /// The class loss alone, forward and backward.
    Focal,
    /// Loading the training set of the configuration.
    Data,
}

/// Times in milliseconds, one for each step after the warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BenchReport {
    /// The device's name, which the binary fills in.
    pub device: String,
    /// Number of threads, which the binary fills in.
    pub threads: usize,
    /// Images of a step.
    pub batch: usize,
    /// Height of the images in pixels.
    pub height: usize,
    /// Width of the images in pixels.
    pub width: usize,
    /// Training steps.
    pub train_step_ms: Vec<f64>,
    /// Inferences.
    pub infer_ms: Vec<f64>,
    /// Losses with their gradients.
    pub loss_ms: Vec<f64>,
    /// The process's largest resident memory after training, MiB; -1 where the system does not tell.
    pub peak_rss_mb: f64,
    /// Class losses with their gradients.
    pub focal_ms: Vec<f64>,
    /// Images per second that the loading workers make ready to train on, one number for each pass.
    pub data_images_per_second: Vec<f64>,
}

/// Times the phases on random images and boxes, the same for every run. Inference is that of `detector`, with its own
/// thresholds, where there is one; else that of a network of seeded weights, which finds nothing.
///
/// # Errors
/// When the configuration is unusable; for [`BenchPhases::Data`] when its training set is.
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
    let setup = Setup::new(config, device);
    if wants(BenchPhases::Train) {
        report.train_step_ms = setup.train(config)?;
        report.peak_rss_mb = peak_rss_mb().unwrap_or(-1.0);
    }
    if wants(BenchPhases::Infer) {
        report.infer_ms = setup.infer(config, detector)?;
    }
    if wants(BenchPhases::Loss) {
        report.loss_ms = setup.loss(config);
    }
    if wants(BenchPhases::Focal) {
        report.focal_ms = setup.focal(config);
    }
    Ok(report)
}

struct Setup {
    device: Device,
    images: Tensor<4>,
    targets: Vec<ImageTargets>,
    /// Anchors of an image.
    anchors: usize,
}

impl Setup {
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

    /// The update of training. Nothing is read from the device, as between two lines of the log.
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
            // As in training, where a CPU makes the breakdown of every step.
            breakdown: is_host(&device),
            clip_norm: config.train.clip_norm,
        };
        let lr = config.train.base_lr() * config.train.warmup_factor;
        Ok(times(&config.bench, &device, || {
            let gradients = learner.gradients([(images.clone(), self.targets.clone())], &options, &device);
            learner.apply(gradients, lr);
        }))
    }

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
        Ok(times(b, &self.device, || {
            predict(&network, model, self.images.clone(), &frames, &post);
        }))
    }

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

/// A box from a twentieth to a half of the image's sides.
fn random_object(random: &mut Stream, bench: &BenchConfig) -> BBox {
    let (width, height) = (bench.width as f32, bench.height as f32);
    let (w, h) = (width * random.range(0.05, 0.5), height * random.range(0.05, 0.5));
    let (x, y) = ((width - w) * random.uniform(), (height - h) * random.uniform());
    BBox::new(x, y, x + w, y + h)
}

/// A network of seeded weights; frozen norms keep their initial statistics, as no file is needed to be timed.
fn build(model: &ModelConfig, classes: usize, seed: u64, device: &Device) -> Result<RetinaNet, TrainError> {
    if model.weights.is_some() {
        return Ok(model.build(classes, seed, device)?.model);
    }
    let mut network = model.seeded(classes, 0, device);
    network.backbone.body = network.backbone.body.freeze_stages(model.freeze_stages);
    Ok(network)
}

/// Milliseconds of each step after the warm-up; the device is waited for after each.
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

/// `VmHWM` of `/proc/self/status`, MiB.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}
