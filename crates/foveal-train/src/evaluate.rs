//! A network over a whole set: detections, COCO's figures and the losses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Device, Tensor, TensorData};
use foveal_anchors::{Anchors, MatcherConfig};
use foveal_coco::{CocoDetection, bbox_to_xywh};
use foveal_criterion::{LossConfig, Normalizer, NormalizerKind};
use foveal_data::{Batch, DataConfig, Dataset, LoaderOptions, loader};
use foveal_detector::{Detection, ImageFrame, ModelConfig, RetinaNet, postprocess};
use foveal_eval::{Metrics, Scored};
use foveal_image::PaddedBatch;
use serde::Serialize;

use crate::config::EvalConfig;
use crate::error::TrainError;
use crate::progress::Progress;

/// Losses over a set, normalised as in training with the whole set for one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MeanLosses {
    /// Over anchors and classes.
    pub class: f64,
    /// Over positive anchors, before `loss.box_weight`.
    #[serde(rename = "box")]
    pub boxes: f64,
    /// `class + box_weight * box`.
    pub total: f64,
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// COCO's figures.
    pub metrics: Metrics,
    /// Losses on the same images.
    pub losses: MeanLosses,
    /// All detections, image by image in the order of the set, best first.
    pub detections: Vec<CocoDetection>,
}

/// A network and the set that it is tried on.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator<'a> {
    /// Its config.
    pub model: &'a ModelConfig,
    /// The set; its categories must be the network's.
    pub dataset: &'a Arc<Dataset>,
    /// How images are prepared.
    pub data: &'a DataConfig,
    /// How detections are made.
    pub eval: &'a EvalConfig,
    /// The losses.
    pub loss: &'a LossConfig,
    /// Which anchors answer for which objects.
    pub matcher: &'a MatcherConfig,
    /// Where to run; autodiff is not used.
    pub device: &'a Device,
}

impl Evaluator<'_> {
    /// Evaluates a network without autodiff; `None` when `stop` was set on the way.
    ///
    /// # Errors
    /// When an image cannot be loaded or the ground truth cannot be evaluated against.
    pub fn run(
        &self,
        network: &RetinaNet,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Option<Evaluation>, TrainError> {
        let options = LoaderOptions {
            batch_size: self.eval.batch_size,
            seed: 0,
            workers: self.data.workers,
            queue: self.data.queue,
            training: false,
            drop_last: false,
            anchors: self.model.anchors.clone(),
            matcher: *self.matcher,
            with_targets: true,
        };
        let device = self.device.clone().without_autodiff();
        let batches = loader(Arc::clone(self.dataset), self.data, options, 0);
        progress.evaluation_start(batches.batches());
        let channels = self.model.class_channels.as_ref();
        let (mut sums, mut detections) = (LossSums::default(), Vec::new());
        for batch in batches {
            let batch = batch?;
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let Batch { images, mut targets, info, skipped, .. } = batch;
            for skipped in skipped {
                progress.message(&format!("left out: {}", skipped.reason));
            }
            if info.is_empty() {
                progress.evaluation_step();
                continue;
            }
            if let Some(channels) = channels {
                channels.retarget(&mut targets);
            }
            let (height, width) = (images.height, images.width);
            let dense = network.forward(image_tensor(images, &device));
            let anchors: Anchors = self.model.anchor_boxes(height, width, &dense.grids);
            let frames: Vec<ImageFrame> = info
                .iter()
                .map(|i| ImageFrame {
                    width: i.width,
                    height: i.height,
                    original_width: i.original_width,
                    original_height: i.original_height,
                })
                .collect();
            // Reads logits and deltas from the device.
            let found = postprocess(&dense, &anchors, &frames, &self.eval.post(), channels);
            for (found, info) in found.into_iter().zip(&info) {
                detections.extend(found.iter().map(|d| self.as_coco(d, info.image_id)));
            }
            let normalizer = match self.loss.normalizer {
                NormalizerKind::Batch | NormalizerKind::Ema => Normalizer::Positives(1),
                NormalizerKind::PerImage => Normalizer::Images(1),
            };
            let losses = self.loss.forward(dense.logits, dense.deltas, &targets, normalizer);
            sums.positives += losses.positives;
            sums.images += targets.len();
            // Reads both losses from the device.
            sums.class += f64::from(losses.class.into_scalar::<f32>());
            sums.boxes += f64::from(losses.boxes.into_scalar::<f32>());
            progress.evaluation_step();
        }
        let Scored { metrics, near_zero, .. } = foveal_eval::score(self.dataset.coco(), &detections)?;
        if let Some(reason) = near_zero {
            progress.message(&reason);
        }
        Ok(Some(Evaluation { metrics, losses: sums.mean(self.loss), detections }))
    }

    fn as_coco(&self, d: &Detection, image_id: i64) -> CocoDetection {
        CocoDetection {
            image_id,
            category_id: self.dataset.label_map().category(d.class).id,
            bbox: bbox_to_xywh(&d.bbox),
            score: f64::from(d.score),
        }
    }
}

/// Losses before normalising.
#[derive(Default)]
struct LossSums {
    class: f64,
    boxes: f64,
    positives: usize,
    images: usize,
}

impl LossSums {
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

/// The images of a batch on a device, `[batch, 3, height, width]`.
pub(crate) fn image_tensor(images: PaddedBatch, device: &Device) -> Tensor<4> {
    let shape = [images.batch, 3, images.height, images.width];
    Tensor::from_data(TensorData::new(images.data, shape), device)
}
