//! `foveal bench`: a training step, inference and the loss alone on seeded random data; loading on a set.

mod loading;
mod random;

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use foveal_anchors::{ImageTargets, grid_sizes, image_targets};
use foveal_boxes::BBox;
use foveal_criterion::{BreakdownLayout, Normalizer};
use foveal_detector::{Checkpoint, ImageFrame, ModelConfig, postprocess};
use foveal_kernels::class_loss;
use serde::Serialize;

use crate::config::{BenchConfig, RunConfig};
use crate::error::TrainError;
use crate::grads::Grads;
use crate::optim::{DeviceScale, Optimizer, Scale};
use crate::pass;
use random::SplitMix;

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

/// Times in milliseconds, a figure a step, warm-up left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BenchReport {
    /// The device's name; the binary knows it.
    pub device: String,
    /// Threads; the binary knows them.
    pub threads: usize,
    /// Images a step.
    pub batch: usize,
    /// Pixels.
    pub height: usize,
    /// Pixels.
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
    /// Images a second that the loading workers make ready to train on, a figure a pass.
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
    anchors: foveal_anchors::Anchors,
}

impl Setup {
    fn new(config: &RunConfig, device: &Device) -> Self {
        let b = &config.bench;
        let device = device.clone().without_autodiff();
        device.seed(config.train.seed);
        let images = Tensor::random([b.batch_size, 3, b.height, b.width], Distribution::Normal(0.0, 1.0), &device);
        let anchors = config.model.anchor_boxes(b.height, b.width, &grid_sizes(b.height, b.width));
        let mut random = SplitMix(config.train.seed);
        let targets = (0..b.batch_size)
            .map(|_| {
                let objects: Vec<BBox> = (0..b.boxes).map(|_| random.object(b)).collect();
                let classes: Vec<u32> = (0..b.boxes).map(|_| random.below(b.classes)).collect();
                image_targets(&anchors.boxes, &objects, &classes, &[], &config.matcher)
            })
            .collect();
        Self { device, images, targets, anchors }
    }

    fn train(&self, config: &RunConfig) -> Result<Vec<f64>, TrainError> {
        let device = self.device.clone().autodiff();
        let mut model = Some(build(&config.model, config.bench.classes, config.train.seed, &device)?);
        let mut optimizer = Optimizer::new(&config.train);
        let images = Tensor::from_inner(self.images.clone());
        let normalizer = Normalizer::of(config.loss.normalizer, &self.targets);
        let on_host = crate::device::is_host(&device);
        let lr = config.train.base_lr() * config.train.warmup_factor;
        Ok(times(&config.bench, &device, || {
            let net = model.take().expect("put back after each step");
            let (dense, backward) = pass::forward(&net, images.clone(), config.train.activations());
            // As in training: on a CPU the breakdown is part of every step.
            let anchors_per_location = config.model.anchors.anchors_per_location();
            let level_anchors = std::array::from_fn(|l| dense.grids[l].positions() * anchors_per_location);
            let breakdown = on_host.then_some(BreakdownLayout { level_anchors });
            let losses = config.loss.forward_with(dense.logits, dense.deltas, &self.targets, normalizer, breakdown);
            let mut grads = Grads::default();
            backward.run(&net, losses.total.clone(), &mut grads);
            let scale = if on_host {
                Scale::Host(1.0)
            } else {
                let total = losses.total.without_autodiff();
                Scale::Device(Box::new(DeviceScale { factor: total.ones_like(), finite: total.is_finite() }))
            };
            model = Some(optimizer.step(net, grads, lr, &scale));
        }))
    }

    fn infer(&self, config: &RunConfig, detector: Option<&Checkpoint>) -> Result<Vec<f64>, TrainError> {
        let b = &config.bench;
        let (model, channels, post) = match detector {
            Some(d) => (d.model.clone(), d.meta.model.class_channels.as_ref(), d.meta.post),
            None => (build(&config.model, b.classes, config.train.seed, &self.device)?, None, config.eval.post()),
        };
        let model = model.valid();
        let anchors = detector.map(|d| d.meta.model.anchor_boxes(b.height, b.width, &grid_sizes(b.height, b.width)));
        let anchors = anchors.as_ref().unwrap_or(&self.anchors);
        let frame = ImageFrame {
            width: b.width,
            height: b.height,
            original_width: b.width as u32,
            original_height: b.height as u32,
        };
        let frames = vec![frame; b.batch_size];
        Ok(times(b, &self.device, || {
            let dense = model.forward(self.images.clone());
            postprocess(&dense, anchors, &frames, &post, channels);
        }))
    }

    fn loss(&self, config: &RunConfig) -> Vec<f64> {
        let device = self.device.clone().autodiff();
        let (batch, anchors) = (config.bench.batch_size, self.anchors.boxes.len());
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
        let rows = config.bench.batch_size * self.anchors.boxes.len();
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

/// A network of seeded weights; frozen norms keep their initial statistics, as no file is needed to be timed.
fn build(
    model: &ModelConfig,
    classes: usize,
    seed: u64,
    device: &Device,
) -> Result<foveal_detector::RetinaNet, TrainError> {
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
