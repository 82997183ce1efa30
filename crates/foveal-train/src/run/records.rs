//! Records of steps, epochs and evaluations: the lines of `log.jsonl`.

use foveal_coco::CocoDetection;
use foveal_criterion::BreakdownRecord;
use foveal_eval::Metrics;
use serde::{Deserialize, Deserializer, Serialize};

use crate::blackbox::StepLosses;
use crate::config::BestBy;

/// Mean losses over a data set. They are normalised as if the whole set were one batch: divided by its number of
/// positive anchors, or with `loss.normalizer = "per_image"` averaged over its images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MeanLosses {
    /// Class loss over all anchors and classes that take part.
    pub class: f64,
    /// Box loss over positive anchors, before it is multiplied by `loss.box_weight`; `box` in JSON.
    #[serde(rename = "box")]
    pub boxes: f64,
    /// Total loss: `class + loss.box_weight * boxes`.
    pub total: f64,
}

/// The result of evaluating a network on a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// COCO metrics of the detections, as pycocotools' `COCOeval` defines them.
    pub metrics: Metrics,
    /// Mean class, box and total loss on the data set.
    pub losses: MeanLosses,
    /// Number of images that the metrics and losses are computed on.
    pub images: usize,
    /// Number of images of the data set that were left out, because they could not be loaded. Their objects do not
    /// count as missed.
    pub left_out: usize,
    /// Ids of these images, in ascending order.
    pub left_out_images: Vec<i64>,
    /// All detections in COCO's results format, image by image in the order of the data set, the highest score of an
    /// image first.
    pub detections: Vec<CocoDetection>,
}

/// A line of `log.jsonl` about the optimizer steps since the last such line (`train.log_every`). Losses, positives and
/// gradient norm are means over these steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number of the line's last optimizer step, counted from 1 over the whole run.
    pub step: u64,
    /// Number of the epoch, counted from 1.
    pub epoch: usize,
    /// Learning rate of the line's last optimizer step.
    pub lr: f64,
    /// Mean total loss, which training minimises: `class_loss + loss.box_weight * box_loss`.
    pub loss: f64,
    /// Mean class loss over all anchors and classes that take part, divided by the normalizer.
    pub class_loss: f64,
    /// Mean box loss over positive anchors, divided by the normalizer, before it is multiplied by `loss.box_weight`.
    pub box_loss: f64,
    /// Mean number of positive anchors in an optimizer step of the line.
    pub positives: f64,
    /// Part of the class loss that comes from positive pairs (an anchor and the class of its object).
    pub positive_loss: f64,
    /// Part of the class loss that comes from negative pairs (a background anchor and any class, or a positive anchor
    /// and a class other than that of its object).
    pub negative_loss: f64,
    /// Fraction of the class loss that comes from positive pairs, from 0 to 1:
    /// `positive_loss / (positive_loss + negative_loss)`.
    pub positive_share: f64,
    /// Mean L2 norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Training speed in images per second. It is a timing and differs between runs.
    pub images_per_second: f64,
    /// Fraction of the time that was spent waiting for images, from 0 to 1. It is a timing and differs between runs.
    pub data_wait: f64,
    /// Breakdown of the class loss by positives and negatives, pyramid levels and classes; `ledger` in JSON. On a CPU
    /// it covers all steps of the line, on a GPU only the last of them.
    #[serde(default, rename = "ledger", skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<BreakdownRecord>,
    /// The loss scale of the line's last step; only with `train.precision = "f16"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Number of steps of the line that were left out because their values overflowed, and that have no part in its
    /// means; only with `train.precision = "f16"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_steps: Option<usize>,
}

impl StepRecord {
    /// The numbers of the line with the names that they have in JSON, without the breakdown of the class loss.
    pub(super) fn scalars(&self) -> Vec<(&'static str, f64)> {
        let mut scalars = vec![
            ("lr", self.lr),
            ("loss", self.loss),
            ("class_loss", self.class_loss),
            ("box_loss", self.box_loss),
            ("positives", self.positives),
            ("positive_loss", self.positive_loss),
            ("negative_loss", self.negative_loss),
            ("positive_share", self.positive_share),
            ("grad_norm", self.grad_norm),
            ("images_per_second", self.images_per_second),
            ("data_wait", self.data_wait),
        ];
        scalars.extend(self.loss_scale.map(|scale| ("loss_scale", scale)));
        scalars.extend(self.skipped_steps.map(|steps| ("skipped_steps", steps as f64)));
        scalars
    }
}

/// A line of `log.jsonl` in place of a [`StepRecord`], if every step of the line was left out because its values
/// overflowed (`train.precision = "f16"`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverflowRecord {
    /// Type of the line: `overflow` in JSON.
    pub event: OverflowEvent,
    /// Number of the line's last optimizer step, counted from 1 over the whole run.
    pub step: u64,
    /// Number of the epoch, counted from 1.
    pub epoch: usize,
    /// The loss scale of the line's last step.
    pub loss_scale: f64,
    /// Number of steps of the line, which were all left out.
    pub skipped_steps: usize,
}

/// Type of a log line about steps that were all left out: the value of `event` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverflowEvent {
    /// The values of the steps overflowed.
    Overflow,
}

/// A line of `log.jsonl` about training steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum StepLine {
    /// Means over the steps that were not left out.
    Means(Box<StepRecord>),
    /// Every step was left out.
    Overflow(OverflowRecord),
}

impl StepLine {
    /// The means; `None` if every step was left out.
    pub(crate) fn means(&self) -> Option<&StepRecord> {
        match self {
            Self::Means(record) => Some(record),
            Self::Overflow(_) => None,
        }
    }
}

/// A line of `log.jsonl` about the training steps of an epoch. Its losses are written to the epoch's row of
/// `metrics.csv` too. Mean losses are NaN, and null in JSON, if every step of the epoch was left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Type of the line, `epoch` in JSON.
    pub event: EpochEvent,
    /// Number of the epoch, counted from 1.
    pub epoch: usize,
    /// Number of optimizer steps made since the start of the run.
    pub step: u64,
    /// Mean total loss over the steps of the epoch.
    #[serde(deserialize_with = "null_as_nan")]
    pub mean_loss: f64,
    /// Mean class loss over the steps of the epoch; 0 when read from logs of earlier versions, which did not write it.
    #[serde(default, deserialize_with = "null_as_nan")]
    pub mean_class_loss: f64,
    /// Mean box loss over the steps of the epoch, before it is multiplied by `loss.box_weight`; 0 when read from logs
    /// of earlier versions, which did not write it.
    #[serde(default, deserialize_with = "null_as_nan")]
    pub mean_box_loss: f64,
    /// Learning rate of the last step of the epoch, `last_lr` in JSON, so that `lr` marks the lines of steps; 0 when
    /// read from logs of earlier versions, which did not write it.
    #[serde(default, rename = "last_lr", alias = "lr")]
    pub lr: f64,
    /// Number of objects in the targets of the epoch's steps, after augmentation: an object counts each time that its
    /// image is used. Crowd regions and ignored objects do not count. 0 when read from logs of earlier versions, which
    /// did not write it.
    #[serde(default)]
    pub objects: usize,
    /// Number of these objects to which the matcher assigned no anchor, so that no anchor was trained to detect them; 0
    /// when read from logs of earlier versions, which did not write it.
    #[serde(default)]
    pub objects_without_anchor: usize,
    /// Duration of the epoch's steps in seconds, without evaluation. It is a timing and differs between runs.
    pub seconds: f64,
    /// Fraction of these seconds that was spent waiting for images, from 0 to 1. It is a timing and differs between
    /// runs. 0 when read from logs of earlier versions, which did not write it.
    #[serde(default)]
    pub data_wait: f64,
    /// Breakdown of the class loss over the steps of the epoch that have one, with a histogram of the negatives'
    /// losses; `ledger` in JSON.
    #[serde(default, rename = "ledger", skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<BreakdownRecord>,
    /// The loss scale of the epoch's last step; only with `train.precision = "f16"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Number of steps of the epoch that were left out because their values overflowed, and that have no part in its
    /// means; only with `train.precision = "f16"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_steps: Option<usize>,
}

/// Reads a number, or null as NaN, which JSON does not have.
fn null_as_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A line of `log.jsonl` about a step whose loss or gradient norm was not finite and that did not end the run
/// (`train.non_finite`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NonFiniteRecord {
    /// Type of the line: `skip` or `rewind`.
    pub event: NonFiniteEvent,
    /// Number of optimizer steps made since the start of the run: with `skip` including the one that was left out, with
    /// `rewind` those of the state that the run went back to.
    pub step: u64,
    /// Number of the epoch of the step that was not finite, counted from 1.
    pub epoch: usize,
    /// Number of the step that was not finite, counted from 1 over the whole run.
    pub non_finite_step: u64,
    /// Losses and gradient norm of the step that was not finite.
    pub losses: StepLosses,
    /// COCO ids of the images of the step that was not finite.
    pub images: Vec<i64>,
    /// Number of such steps of the run so far.
    pub count: u64,
    /// Factor of the learning rate of the steps that follow.
    pub lr_factor: f64,
}

/// Type of a log line about a step that was not finite: the value of `event` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFiniteEvent {
    /// The step was left out.
    Skip,
    /// The run went back to its last saved state.
    Rewind,
}

/// A line of `log.jsonl` about an evaluation. Its losses and COCO's twelve metrics are written to the epoch's row of
/// `metrics.csv` too.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationRecord {
    /// Type of the line: `evaluation` in JSON, which distinguishes it from lines about steps and epochs.
    pub event: EvaluationEvent,
    /// Number of the epoch after which the network was evaluated, counted from 1.
    pub epoch: usize,
    /// Number of optimizer steps made since the start of the run.
    pub step: u64,
    /// Number of images that the metrics and losses are computed on.
    pub images: usize,
    /// Number of images of the validation set that were left out, because they could not be loaded.
    pub left_out: usize,
    /// Mean losses on the validation set.
    pub losses: MeanLosses,
    /// COCO metrics by their names (`AP`, `AP50`, …) and the AP of each category in `per_category`.
    pub metrics: serde_json::Value,
}

impl EvaluationRecord {
    /// The log line of `evaluation`, made after `epoch` epochs and `step` optimizer steps.
    pub fn new(epoch: usize, step: u64, evaluation: &Evaluation) -> Self {
        let metrics = evaluation.metrics.to_json();
        let &Evaluation { images, left_out, losses, .. } = evaluation;
        Self { event: EvaluationEvent::Evaluation, epoch, step, images, left_out, losses, metrics }
    }
}

/// Type of a log line about an evaluation: the value of `event` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvaluationEvent {
    /// The line is about an evaluation.
    Evaluation,
}

/// Type of a log line about an epoch: the value of `event` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EpochEvent {
    /// The line is about the training steps of an epoch.
    Epoch,
}

/// A line of `log.jsonl` about the end of a run that made no gain any more (`train.patience`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopRecord {
    /// Type of the line: `early_stop` in JSON.
    pub event: EarlyStopEvent,
    /// Number of the epoch after which the run ended, counted from 1.
    pub epoch: usize,
    /// Number of optimizer steps made since the start of the run.
    pub step: u64,
    /// The value by which evaluations are compared (`train.best_by`).
    pub best_by: BestBy,
    /// The best value that counted as a gain; null if no evaluation had a defined value.
    pub best: Option<f64>,
    /// Number of evaluations since then, which is `train.patience`.
    pub evaluations: usize,
}

/// Type of a log line about the early end of a run: the value of `event` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyStopEvent {
    /// The run ended, because it made no gain any more.
    EarlyStop,
}

/// A line of `log.jsonl` about the number of steps that `train.time_limit` leaves the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeLimitRecord {
    /// Type of the line: `time_limit` in JSON.
    pub event: TimeLimitEvent,
    /// Number of the epoch, counted from 1.
    pub epoch: usize,
    /// Number of optimizer steps made since the start of the run when the number was computed.
    pub step: u64,
    /// Number of optimizer steps of the whole run.
    pub steps: u64,
    /// Length of the whole run in epochs.
    pub epochs: f64,
    /// Seconds that the run had taken so far, in all of its processes.
    pub seconds: f64,
    /// Mean duration of a step in seconds, including the loading of its images, when steps were last timed. 0 if the
    /// limit was reached before three steps were timed.
    pub step_seconds: f64,
    /// Expected duration of an evaluation in seconds.
    pub evaluation_seconds: f64,
}

/// Type of a log line about the time limit of a run: the value of `event` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeLimitEvent {
    /// The number of steps was computed.
    TimeLimit,
}
