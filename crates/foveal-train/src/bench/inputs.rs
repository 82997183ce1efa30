//! The phases of a benchmark that run on a device, on seeded random images and boxes.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use foveal_anchors::{ImageTargets, grid_sizes, image_targets};
use foveal_boxes::BBox;
use foveal_criterion::Normalizer;
use foveal_data::{ObjectCounts, Stream};
use foveal_detector::{Checkpoint, Dense, ImageFrame, ModelConfig, RetinaNet, image_tensor, predict};
use foveal_image::ImageBatch;
use foveal_kernels::class_loss;

use super::blocks;
use super::clock::{Clock, Repetition, Timed};
use super::feed::{fed, random_images};
use crate::config::{BenchConfig, RunConfig};
use crate::device::is_host;
use crate::error::TrainError;
use crate::run::{Step, fetch, read_values};
use crate::train::log_every;
use crate::update::{FIRST_SCALE, GradientOptions, Learner, Optimizer};

/// The random inputs of a benchmark.
pub(super) struct Inputs {
    /// Without autodiff.
    pub(super) device: Device,
    images: Images,
    /// Targets of each image.
    targets: Vec<ImageTargets>,
    /// Number of anchors in an image.
    anchors: usize,
    /// Number of repetitions between two waits for the device: 1 on a CPU, and on a GPU as many as training runs
    /// between two lines of the log.
    pub(super) turn: usize,
}

/// The images of all repetitions, `[batch, 3, height, width]`.
enum Images {
    /// On a CPU: a tensor that all repetitions use.
    Kept(Box<Tensor<4>>),
    /// On a GPU: images in host memory, which each repetition copies to the device as training does.
    Copied(ImageBatch),
}

/// What was measured in the phase of training steps.
pub(super) struct Training {
    pub(super) timed: Timed,
    /// Class loss, box loss, total loss, class loss of positives, class loss of all other pairs and gradient norm of
    /// the first step.
    pub(super) first_values: Vec<f32>,
    /// The operations and blocks of a step, where they were to be counted and the device is a GPU.
    pub(super) counted: Option<[usize; 2]>,
}

impl Inputs {
    pub(super) fn new(config: &RunConfig, device: &Device) -> Self {
        let b = &config.bench;
        let device = device.clone().without_autodiff();
        device.seed(config.train.seed);
        let anchors = config.model.anchor_boxes(b.height, b.width, &grid_sizes(b.height, b.width));
        let mut random = Stream::new(&[config.train.seed]);
        let targets = (0..b.batch_size)
            .map(|_| {
                let objects: Vec<BBox> = (0..b.boxes).map(|_| random_object(&mut random, b)).collect();
                let classes: Vec<u32> = (0..b.boxes).map(|_| random.below(b.classes) as u32).collect();
                image_targets(&anchors, &objects, &classes, &[], &config.matcher)
            })
            .collect();
        let images = random_images(b, &config.data.preprocess(), &mut random);
        let (images, turn) = match is_host(&device) {
            true => (Images::Kept(Box::new(image_tensor(images, &device))), 1),
            false => (Images::Copied(images), log_every(config, &device)),
        };
        Self { device, images, targets, anchors: anchors.boxes.len(), turn }
    }

    fn clock<'a>(&'a self, config: &'a RunConfig) -> Clock<'a> {
        Clock { bench: &config.bench, device: &self.device, turn: self.turn }
    }

    /// Calls `run` with a function that returns the images of a repetition, on the device and without autodiff.
    pub(super) fn with_images<T>(&self, run: impl FnOnce(&mut dyn FnMut() -> Tensor<4>) -> T) -> T {
        match &self.images {
            Images::Kept(images) => run(&mut || images.as_ref().clone()),
            Images::Copied(images) => fed(images, |next| run(&mut || image_tensor(next(), &self.device))),
        }
    }

    /// Times training steps as they are in training: on a GPU with the copy of the images, and with the values of all
    /// steps and the loss breakdown read in one transfer where a line of the log ends. On a CPU, nothing is read but
    /// the values of the first step.
    pub(super) fn train(&self, config: &RunConfig, count: bool) -> Result<Training, TrainError> {
        let device = self.device.clone().autodiff();
        let model = build(&config.model, config.bench.classes, config.train.seed, &device)?;
        let learner = Learner::new(model, Optimizer::new(&config.train), None);
        let mut learner = learner.in_precision(config.train.precision, FIRST_SCALE, &device);
        let options = GradientOptions {
            loss: &config.loss,
            normalizer: Normalizer::of(config.loss.normalizer, &self.targets),
            anchors_per_location: config.model.anchors.anchors_per_location(),
            activations: config.train.activations(),
            breakdown: false,
            first_loss: None,
            clip_norm: config.train.clip_norm,
        };
        let lr = config.train.base_lr() * config.train.warmup_factor;
        let host = is_host(&device);
        let (mut first_values, mut pending) = (Vec::new(), Vec::new());
        Ok(self.with_images(|images| {
            let mut number = 0;
            let mut step = |kind| {
                let logged = kind != Repetition::Plain;
                // On a CPU, training computes the breakdown in every step.
                let options = GradientOptions { breakdown: host || logged, ..options };
                let input = (Tensor::from_inner(images()), self.targets.clone());
                let mut gradients = learner.gradients([input], &options, &device);
                number += 1;
                let values = gradients.values.clone();
                if !host || kind == Repetition::First {
                    pending.push(Step {
                        step: number,
                        epoch: 1,
                        lr,
                        positives: gradients.positives,
                        objects: ObjectCounts::default(),
                        images: Vec::new(),
                        first_batch: 0,
                        normalizer: options.normalizer,
                        values: values.clone(),
                        scale: gradients.scale.take(),
                        breakdown: gradients.breakdown.take(),
                    });
                }
                learner.apply(gradients, lr);
                if logged && !pending.is_empty() {
                    let read = fetch(&std::mem::take(&mut pending));
                    if kind == Repetition::First {
                        first_values = read[0].values.to_vec();
                    }
                }
                values
            };
            let read = |values| drop(read_values(values));
            let timed = self.clock(config).run(&mut step, read);
            let counted = match count && !host {
                true => blocks::count(&self.device, || drop(step(Repetition::Plain))),
                false => None,
            };
            Training { timed, first_values, counted }
        }))
    }

    /// Times inference, and counts the detections in the batch. On a GPU, each repetition copies the images.
    pub(super) fn infer(
        &self,
        config: &RunConfig,
        detector: Option<&Checkpoint>,
    ) -> Result<(Timed, usize), TrainError> {
        let b = &config.bench;
        let (network, model) = network(config, detector, &self.device)?;
        let (network, post) = (network.valid(), detector.map_or_else(|| config.eval.post(), |d| d.meta.post));
        let frame = ImageFrame {
            width: b.width,
            height: b.height,
            original_width: b.width as u32,
            original_height: b.height as u32,
        };
        let frames = vec![frame; b.batch_size];
        let mut last = Ok(0);
        // Each repetition waits for the device, because its outputs are read.
        let timed = self.with_images(|images| {
            let step = |_| {
                let found = predict(&network, model, config.train.precision.cast(images()), &frames, &post);
                last = found.map(|found| found.detections.iter().map(Vec::len).sum());
            };
            Clock { turn: 1, ..self.clock(config) }.run(step, |()| {})
        });
        last.map_or_else(|error| Err(TrainError::Model(error.into())), |detections| Ok((timed, detections)))
    }

    /// Times the network alone. On a GPU, each repetition copies the images.
    pub(super) fn raw(&self, config: &RunConfig, detector: Option<&Checkpoint>) -> Result<Timed, TrainError> {
        let (network, _) = network(config, detector, &self.device)?;
        let network = network.valid();
        let read = |dense: Dense| {
            read_first(dense.logits);
            read_first(dense.deltas);
        };
        Ok(self.with_images(|images| {
            self.clock(config).run(|_| network.forward(config.train.precision.cast(images())), read)
        }))
    }

    /// Times both losses with their gradients.
    pub(super) fn loss(&self, config: &RunConfig) -> Timed {
        let device = self.device.clone().autodiff();
        let (batch, anchors) = (config.bench.batch_size, self.anchors);
        let noise = Distribution::Normal(0.0, 1.0);
        let logits = Tensor::<3>::random([batch, anchors, config.bench.classes], noise, &device);
        let deltas = Tensor::<3>::random([batch, anchors, 4], noise, &device);
        let (logits, deltas) = (logits.require_grad(), deltas.require_grad());
        let normalizer = Normalizer::of(config.loss.normalizer, &self.targets);
        let step = |_| {
            let losses = config.loss.forward(logits.clone(), deltas.clone(), &self.targets, normalizer);
            let gradients = losses.total.backward();
            [logits.grad(&gradients), deltas.grad(&gradients)]
        };
        self.clock(config).run(step, |gradients| gradients.into_iter().flatten().for_each(read_first))
    }

    /// Times the class loss with its gradient.
    pub(super) fn focal(&self, config: &RunConfig) -> Timed {
        let device = self.device.clone().autodiff();
        let rows = config.bench.batch_size * self.anchors;
        let noise = Distribution::Normal(0.0, 1.0);
        let logits = Tensor::<2>::random([rows, config.bench.classes], noise, &device).require_grad();
        let classes: Vec<i32> = self.targets.iter().flat_map(|t| t.classes.iter().copied()).collect();
        let classes = Tensor::<1, Int>::from_data(TensorData::new(classes, [rows]), &device);
        let step = |_| {
            let loss = class_loss(logits.clone(), classes.clone(), config.loss.class_params()).loss;
            logits.grad(&loss.backward())
        };
        self.clock(config).run(step, |gradient| gradient.into_iter().for_each(read_first))
    }
}

/// A box whose sides are 5 % to 50 % of the image's sides.
fn random_object(random: &mut Stream, bench: &BenchConfig) -> BBox {
    let (width, height) = (bench.width as f32, bench.height as f32);
    let (w, h) = (width * random.range(0.05, 0.5), height * random.range(0.05, 0.5));
    let (x, y) = ((width - w) * random.uniform(), (height - h) * random.uniform());
    BBox::new(x, y, x + w, y + h)
}

/// The network whose inference is measured, with its configuration: that of `detector` or of `config`.
pub(super) fn network<'a>(
    config: &'a RunConfig,
    detector: Option<&'a Checkpoint>,
    device: &Device,
) -> Result<(RetinaNet, &'a ModelConfig), TrainError> {
    match detector {
        Some(detector) => Ok((detector.model.clone(), &detector.meta.model)),
        None => Ok((build(&config.model, config.bench.classes, config.train.seed, device)?, &config.model)),
    }
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

/// Waits for the device by reading the first value of a tensor.
fn read_first<const D: usize>(tensor: Tensor<D>) {
    drop(read_values(tensor.slice([const { 0..1 }; D]).reshape([1])));
}
