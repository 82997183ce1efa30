//! The part of the log that is not in `log.jsonl` yet, which a training state stores.

use foveal_criterion::LossBreakdown;
use foveal_data::ObjectCounts;
use serde::{Deserialize, Serialize};

use super::step_log::{Step, VALUES};

/// An optimizer step whose losses were read from the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ReadStep {
    pub(super) step: u64,
    pub(super) epoch: usize,
    pub(super) lr: f64,
    pub(super) positives: usize,
    /// Numbers of objects of all images of the step; 0 in states of earlier versions.
    #[serde(default)]
    pub(super) objects: ObjectCounts,
    /// Number of images of the step.
    pub(super) images: usize,
    /// The values of [`Step::values`], which are finite.
    pub(super) values: [f32; VALUES],
    pub(super) breakdown: Option<LossBreakdown>,
}

/// An optimizer step that was left out because its values overflowed (`train.precision = "f16"`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SkippedStep {
    pub(super) step: u64,
    pub(super) epoch: usize,
    pub(super) lr: f64,
    /// Number of images of the step.
    pub(super) images: usize,
}

/// The steps that were read since the last line of the log, and sums over the steps of the epoch: the part of the log
/// that a training state stores, so that an epoch can be continued in its middle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Steps since the last line that were read from the device.
    pub(super) steps: Vec<ReadStep>,
    /// Steps since the last line that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) skipped: Vec<SkippedStep>,
    /// Sums of class, box and total loss over the epoch's steps that are in lines of the log.
    pub(super) sums: [f64; 3],
    /// Number of the epoch's steps that are in lines of the log, without those that were left out.
    pub(super) count: usize,
    /// Number of the epoch's steps that are in lines of the log and were left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) skipped_count: usize,
    /// Numbers of objects of the epoch's steps that are in lines of the log, without those that were left out. In
    /// states of earlier versions, those of the steps before are missing.
    #[serde(default)]
    pub(super) objects: ObjectCounts,
    /// Learning rate of the last step that is in a line of the log.
    pub(super) lr: f64,
    /// Breakdown of the class loss over the epoch's steps that are in lines of the log and have one.
    pub(super) breakdown: Option<LossBreakdown>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl LogPosition {
    /// Number of steps that are in no line of the log yet.
    pub(crate) fn unwritten(&self) -> usize {
        self.steps.len() + self.skipped.len()
    }
}

impl ReadStep {
    /// A step with its values and its breakdown, which were read from the device.
    pub(super) fn new(step: &Step, values: [f32; VALUES], breakdown: Option<LossBreakdown>) -> Self {
        Self {
            step: step.step,
            epoch: step.epoch,
            lr: step.lr,
            positives: step.positives,
            objects: step.objects,
            images: step.images.len(),
            values,
            breakdown,
        }
    }
}
