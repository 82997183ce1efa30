//! Progress reports of training and evaluation. The library itself prints nothing.

use foveal_boxes::BBox;
use foveal_eval::Metrics;
use foveal_image::RgbImage;
use serde_json::Value;

use super::{MeanLosses, Picture, StepRecord};
use crate::config::BestBy;

/// Report at the beginning of a training epoch (see [`Progress::epoch_start`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// Number of the epoch, counted from 1.
    pub epoch: usize,
    /// Number of epochs of the whole run (`train.epochs`).
    pub epochs: usize,
    /// Number of optimizer steps in the epoch.
    pub steps: usize,
    /// Number of these steps that were made before, in a run that is resumed inside the epoch.
    pub done: usize,
    /// Number of optimizer steps of the whole run, as far as it is known.
    pub run_steps: u64,
}

/// Report of a finished evaluation on the validation set (see [`Progress::evaluation`]).
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationReport<'a> {
    /// Number of the epoch after which the network was evaluated, counted from 1.
    pub epoch: usize,
    /// COCO metrics on the validation set, as pycocotools' `COCOeval` defines them.
    pub metrics: &'a Metrics,
    /// Mean class, box and total loss on the validation set.
    pub losses: &'a MeanLosses,
    /// Number of images that were evaluated.
    pub images: usize,
    /// Number of images of the validation set that were left out, because they could not be loaded.
    pub left_out: usize,
    /// Whether the evaluation is the best of the run so far, by `best_by`.
    pub best: bool,
    /// The value by which evaluations are compared (`train.best_by`).
    pub best_by: &'a BestBy,
    /// This value; `None` if it is undefined.
    pub value: Option<f64>,
    /// The best value of the evaluations before this one; `None` if there was none.
    pub best_before: Option<f64>,
    /// Duration of the evaluation in seconds.
    pub seconds: f64,
}

/// A detection in an image that is drawn (see [`Progress::draw`]).
#[derive(Clone, Debug, PartialEq)]
pub struct DrawnDetection {
    /// The box in pixels of the image.
    pub bbox: BBox,
    /// Index of the class.
    pub class: u32,
    /// Name of the class.
    pub name: String,
    /// Score from 0 to 1.
    pub score: f64,
}

/// Receives progress reports from training and evaluation. Every method does nothing by default, so that an
/// implementation writes only those it needs.
pub trait Progress {
    /// Called with a message for the user, such as which weights were loaded or why an image was left out. Warnings
    /// begin with `warning: `.
    fn message(&mut self, _text: &str) {}
    /// Called on a GPU before the first optimizer step, in which Burn tunes its kernels.
    fn tuning_start(&mut self) {}
    /// Called when the first step on a GPU is done, with its duration in seconds.
    fn tuning_end(&mut self, _seconds: f64) {}
    /// The last panic of a thread of the device that says why the device failed, in the words of the driver. Such a
    /// thread catches its panics, so only a program with a panic hook knows them.
    fn device_report(&mut self) -> Option<String> {
        None
    }
    /// Called at the beginning of each epoch, before its first step.
    fn epoch_start(&mut self, _start: &EpochStart) {}
    /// Called after each optimizer step with its number, counted from 1. `_read` holds the mean losses since the last
    /// log line after every `train.log_every` steps, and is `None` in between.
    fn step(&mut self, _step: u64, _read: Option<&StepRecord>) {}
    /// Called when `train.time_limit` has given the run another number of optimizer steps.
    fn run_length(&mut self, _steps: u64) {}
    /// Called after the last step of an epoch, before checkpoints are written.
    fn epoch_end(&mut self) {}
    /// Called at the beginning of an evaluation with the number of its batches.
    fn evaluation_start(&mut self, _batches: usize) {}
    /// Called after each batch of an evaluation.
    fn evaluation_step(&mut self) {}
    /// Called by the training loop when an evaluation is finished and logged.
    fn evaluation(&mut self, _report: &EvaluationReport<'_>) {}
    /// Draws detections, the highest score first, on an image of the validation set, for the event file. `None` if this
    /// receiver cannot draw.
    fn draw(&mut self, _image: &RgbImage, _detections: &[DrawnDetection]) -> Option<Picture> {
        None
    }
    /// Called when an epoch is finished, and evaluated where that is due, with a JSON object: `run` is the path of the
    /// run folder, `epoch` the line of the epoch in `log.jsonl`, `evaluation` that of its evaluation or null, and
    /// `best` whether that is the best so far. `epoch` is null if it was trained before the run was resumed.
    fn epoch_finished(&mut self, _json: &Value) {}
}

/// A [`Progress`] that ignores all reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
