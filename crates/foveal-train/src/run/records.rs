//! What a run says of its steps, epochs and evaluations: the lines of `log.jsonl`.

use foveal_coco::CocoDetection;
use foveal_criterion::BreakdownRecord;
use foveal_eval::Metrics;
use serde::{Deserialize, Serialize};

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

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// COCO's metrics.
    pub metrics: Metrics,
    /// Losses on the same images.
    pub losses: MeanLosses,
    /// All detections, image by image in the order of the set, best first.
    pub detections: Vec<CocoDetection>,
}

/// The line of a log interval: means over its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Optimizer steps made, from 1.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: usize,
    /// Learning rate of the interval's last step.
    pub lr: f64,
    /// Total loss, which is minimised.
    pub loss: f64,
    /// Class loss, over anchors and classes.
    pub class_loss: f64,
    /// Box loss, over positive anchors, before `loss.box_weight`.
    pub box_loss: f64,
    /// Positive anchors of a step.
    pub positives: f64,
    /// The class loss's part from positives.
    pub positive_loss: f64,
    /// The class loss's part from all else.
    pub negative_loss: f64,
    /// `positive_loss` over the sum of both parts.
    pub positive_share: f64,
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Images per second. A timing: no two runs agree.
    pub images_per_second: f64,
    /// Fraction of the time spent waiting for images. A timing: no two runs agree.
    pub data_wait: f64,
    /// Where the class loss came from: on a CPU over all steps of the line, on other devices in its last step.
    #[serde(default, rename = "ledger", skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<BreakdownRecord>,
}

/// The line of an epoch; a row of `metrics.csv` too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Marks the line.
    pub event: EpochEvent,
    /// Finished epochs.
    pub epoch: usize,
    /// Optimizer steps made.
    pub step: u64,
    /// Mean total loss over the epoch's steps.
    pub mean_loss: f64,
    /// Mean class loss over the epoch's steps; 0 in logs of earlier versions, which did not write it.
    #[serde(default)]
    pub mean_class_loss: f64,
    /// Mean box loss over the epoch's steps, before `loss.box_weight`; 0 in logs of earlier versions.
    #[serde(default)]
    pub mean_box_loss: f64,
    /// Learning rate of the epoch's last step; 0 in logs of earlier versions.
    #[serde(default)]
    pub lr: f64,
    /// Duration in seconds. A timing: no two runs agree.
    pub seconds: f64,
    /// Where the class loss came from, over the steps whose lines have a breakdown; with the negatives' histogram.
    #[serde(default, rename = "ledger", skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<BreakdownRecord>,
}

/// The line of an evaluation; its metrics stand in the epoch's row of `metrics.csv` too.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationRecord {
    /// Marks the line.
    pub event: EvaluationEvent,
    /// Finished epochs.
    pub epoch: usize,
    /// Optimizer steps made.
    pub step: u64,
    /// Losses on the validation set.
    pub losses: MeanLosses,
    /// COCO's metrics and those of each class.
    pub metrics: serde_json::Value,
}

impl EvaluationRecord {
    /// The line of an evaluation.
    pub fn new(epoch: usize, step: u64, evaluation: &Evaluation) -> Self {
        let metrics = evaluation.metrics.to_json();
        Self { event: EvaluationEvent::Evaluation, epoch, step, losses: evaluation.losses, metrics }
    }
}

/// The mark of an evaluation's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvaluationEvent {
    /// An evaluation.
    Evaluation,
}

/// The mark of an epoch's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EpochEvent {
    /// An epoch's end.
    Epoch,
}
