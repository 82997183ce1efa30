//! The report of a black box: the content of `report.json`.

use burn::backend::DispatchDevice;
use burn::tensor::Device;
use foveal_criterion::Normalizer;
use foveal_detector::ModelConfig;
use serde::{Deserialize, Serialize};

use super::{BatchTrace, Finding, Number};
use crate::run::{BadStep, StateMeta};

/// Version of the format of a black box. Folders of other versions are refused.
pub(super) const FORMAT: u32 = 1;

/// An optimizer step whose loss or gradient norm is not finite, and the circumstances that a replay needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the format.
    pub format: u32,
    /// Version of foveal that wrote the black box.
    pub foveal: String,
    /// Operating system and processor, such as `linux x86_64`.
    pub system: String,
    /// The device that the step ran on, such as `flex`.
    pub device: String,
    /// Number of computation threads. Results on a CPU do not depend on it.
    pub threads: usize,
    /// `train.seed` of the run. With the epoch it determines the order of the images and their augmentation.
    pub seed: u64,
    /// Number of the optimizer step, counted from 1 over the whole run.
    pub step: u64,
    /// Number of the epoch, counted from 1.
    pub epoch: usize,
    /// Number of batches of the epoch before those of the step.
    pub first_batch: usize,
    /// Learning rate of the step.
    pub lr: Number,
    /// Losses and gradient norm of the step.
    pub losses: StepLosses,
    /// The scale by which the loss was multiplied before the backward pass, with `train.precision = "f16"`. The
    /// recorded gradient norm is that of the loss without it; the statistics of gradients are those with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<Number>,
    /// The normalizer that the losses were divided by.
    pub normalizer: RecordedNormalizer,
    /// Number of positive anchors of all images of the step.
    pub positives: usize,
    /// The images of the step, in the order of the batches.
    pub images: Vec<RecordedImage>,
    /// Images that could not be loaded and were replaced by others of the set.
    pub replaced: Vec<ReplacedImage>,
    /// Why the batch is not in the black box; `None` if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_batch: Option<String>,
    /// The configuration of the network, with the batch norms that stay trained because their weight file has no
    /// statistics.
    pub model: ModelConfig,
    /// Number of categories of the data set.
    pub classes: usize,
    /// Where the values turned, found when the black box was written; `None` without the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// Statistics by layer for each batch of the step; empty without the batch.
    #[serde(default)]
    pub batches: Vec<BatchTrace>,
}

impl Report {
    /// The report of a step of the run whose counters and network are `meta`, on `device`, as yet without its images.
    pub(crate) fn new(bad: &BadStep, meta: &StateMeta, classes: usize, device: &Device) -> Self {
        let step = &bad.step;
        Self {
            format: FORMAT,
            foveal: env!("CARGO_PKG_VERSION").to_owned(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            device: device_name(device),
            threads: rayon::current_num_threads(),
            seed: meta.seed,
            step: step.step,
            epoch: step.epoch,
            first_batch: step.first_batch,
            lr: Number(step.lr),
            losses: StepLosses::of(&bad.values),
            loss_scale: bad.scale.map(Number),
            normalizer: step.normalizer.into(),
            positives: step.positives,
            images: Vec::new(),
            replaced: Vec::new(),
            missing_batch: None,
            model: meta.model.clone(),
            classes,
            finding: None,
            batches: Vec::new(),
        }
    }
}

/// Losses and gradient norm of an optimizer step, summed over its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepLosses {
    /// Class loss, divided by the normalizer.
    pub class: Number,
    /// Box loss, divided by the normalizer and not multiplied by `loss.box_weight`; `box` in JSON.
    #[serde(rename = "box")]
    pub boxes: Number,
    /// Total loss: `class + loss.box_weight * boxes`.
    pub total: Number,
    /// L2 norm of all gradients together, before clipping.
    pub grad_norm: Number,
}

impl StepLosses {
    /// The losses of a step from the values of `Gradients::values`: class loss, box loss, total loss, class loss of
    /// positives, class loss of all other pairs, gradient norm.
    pub(crate) fn of(&[class, boxes, total, _, _, grad_norm]: &[f32; 6]) -> Self {
        let [class, boxes, total, grad_norm] = [class, boxes, total, grad_norm].map(|v| Number(f64::from(v)));
        Self { class, boxes, total, grad_norm }
    }

    /// Whether total loss and gradient norm are finite.
    pub fn is_finite(&self) -> bool {
        self.total.0.is_finite() && self.grad_norm.0.is_finite()
    }

    /// The values with their names: `class loss`, `box loss`, `total loss` and `gradient norm`.
    pub fn named(&self) -> [(&'static str, Number); 4] {
        [
            ("class loss", self.class),
            ("box loss", self.boxes),
            ("total loss", self.total),
            ("gradient norm", self.grad_norm),
        ]
    }
}

/// The number that the losses of a step are divided by, see [`Normalizer`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedNormalizer {
    /// The number of positive anchors of the step.
    Positives(usize),
    /// The number of images of the step, together with the number of positive anchors of each image.
    Images(usize),
    /// The moving average of the number of positive anchors.
    Smoothed(f64),
}

impl From<Normalizer> for RecordedNormalizer {
    fn from(normalizer: Normalizer) -> Self {
        match normalizer {
            Normalizer::Positives(n) => Self::Positives(n),
            Normalizer::Images(n) => Self::Images(n),
            Normalizer::Smoothed(n) => Self::Smoothed(n),
        }
    }
}

impl From<RecordedNormalizer> for Normalizer {
    fn from(normalizer: RecordedNormalizer) -> Self {
        match normalizer {
            RecordedNormalizer::Positives(n) => Self::Positives(n),
            RecordedNormalizer::Images(n) => Self::Images(n),
            RecordedNormalizer::Smoothed(n) => Self::Smoothed(n),
        }
    }
}

/// An image of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedImage {
    /// COCO id of the image.
    pub image_id: i64,
    /// Index of the image in the training set, from 0.
    pub index: usize,
    /// Path of the image file; `None` for a generated image.
    pub file: Option<String>,
    /// Index of its batch within the step, from 0; `None` if the batch is not in the black box.
    pub batch: Option<usize>,
}

/// An image that could not be loaded and was replaced by another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedImage {
    /// COCO id of the image that was left out.
    pub image_id: i64,
    /// Why it could not be loaded.
    pub reason: String,
}

/// The name of a device: `flex`, `ndarray`, or Burn's description of an accelerator.
pub(crate) fn device_name(device: &Device) -> String {
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Flex(_) => "flex".to_owned(),
        DispatchDevice::NdArray(_) => "ndarray".to_owned(),
        other => format!("{other:?}"),
    }
}
