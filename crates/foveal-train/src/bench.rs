//! `foveal bench`: a training step, inference and the loss alone on seeded random data.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use foveal_anchors::{ImageTargets, grid_sizes, image_targets};
use foveal_boxes::BBox;
use foveal_criterion::Normalizer;
use foveal_detector::{ImageFrame, ModelConfig, postprocess};
use serde::Serialize;

use crate::config::{BenchConfig, RunConfig};
use crate::error::TrainError;
use crate::grads::Grads;
use crate::optim::{DeviceScale, Optimizer, Scale};

/// What to time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BenchPhases {
    /// One after the other.
    #[default]
    All,
    /// Forward, loss, backward, update.
    Train,
    /// Forward and post-processing.
    Infer,
    /// Both losses, forward and backward.
    Loss,
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
}

/// Times the phases on random images and boxes, the same for every run.
///
/// # Errors
/// When the configuration is unusable.
pub fn bench(config: &RunConfig, device: &Device, phases: BenchPhases) -> Result<BenchReport, TrainError> {
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
    let setup = Setup::new(config, device);
    if wants(BenchPhases::Train) {
        report.train_step_ms = setup.train(config)?;
        report.peak_rss_mb = peak_rss_mb().unwrap_or(-1.0);
    }
    if wants(BenchPhases::Infer) {
        report.infer_ms = setup.infer(config)?;
    }
    if wants(BenchPhases::Loss) {
        report.loss_ms = setup.loss(config);
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
            let dense = net.forward(images.clone());
            let losses = config.loss.forward(dense.logits, dense.deltas, &self.targets, normalizer);
            let mut grads = Grads::default();
            grads.accumulate(&net, losses.total.clone().backward());
            let scale = if on_host {
                Scale::Host(1.0)
            } else {
                let total = losses.total.without_autodiff();
                Scale::Device(Box::new(DeviceScale { factor: total.ones_like(), finite: total.is_finite() }))
            };
            model = Some(optimizer.step(net, grads, lr, &scale));
        }))
    }

    fn infer(&self, config: &RunConfig) -> Result<Vec<f64>, TrainError> {
        let model = build(&config.model, config.bench.classes, config.train.seed, &self.device)?.valid();
        let b = &config.bench;
        let frame = ImageFrame {
            width: b.width,
            height: b.height,
            original_width: b.width as u32,
            original_height: b.height as u32,
        };
        let frames = vec![frame; b.batch_size];
        Ok(times(b, &self.device, || {
            let dense = model.forward(self.images.clone());
            postprocess(&dense, &self.anchors, &frames, &config.eval.post(), None);
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
    let mut network = model.skeleton(classes, device);
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

/// Steele, Lea and Flood's generator (OOPSLA 2014): enough for boxes.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A fraction in 0..1.
    fn fraction(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    fn below(&mut self, count: usize) -> u32 {
        (self.next() % count as u64) as u32
    }

    /// A box from a twentieth to a half of the picture's sides.
    fn object(&mut self, bench: &BenchConfig) -> BBox {
        let (width, height) = (bench.width as f32, bench.height as f32);
        let (w, h) = (width * (0.05 + 0.45 * self.fraction()), height * (0.05 + 0.45 * self.fraction()));
        let (x, y) = ((width - w) * self.fraction(), (height - h) * self.fraction());
        BBox::new(x, y, x + w, y + h)
    }
}
