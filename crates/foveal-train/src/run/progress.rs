//! Progress reports of a run. The library prints nothing itself.

use foveal_eval::Metrics;

use super::{MeanLosses, StepRecord};

/// The beginning of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// From 1.
    pub epoch: usize,
    /// All of the run.
    pub epochs: usize,
    /// Optimizer steps of this epoch.
    pub steps: usize,
}

/// A finished evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationReport<'a> {
    /// Finished epochs.
    pub epoch: usize,
    /// COCO's metrics.
    pub metrics: &'a Metrics,
    /// Losses on the same images.
    pub losses: &'a MeanLosses,
    /// Whether its AP is the highest so far.
    pub best: bool,
    /// How long it took.
    pub seconds: f64,
}

/// A listener. Every method has an empty default.
pub trait Progress {
    /// A line worth reading once: what was loaded, what was left out.
    fn message(&mut self, _text: &str) {}
    /// An epoch begins.
    fn epoch_start(&mut self, _start: &EpochStart) {}
    /// An optimizer step was made; losses come with the steps after which they were read.
    fn step(&mut self, _step: u64, _read: Option<&StepRecord>) {}
    /// The epoch's steps are done.
    fn epoch_end(&mut self) {}
    /// An evaluation begins.
    fn evaluation_start(&mut self, _batches: usize) {}
    /// One of its batches is done.
    fn evaluation_step(&mut self) {}
    /// It is done.
    fn evaluation(&mut self, _report: &EvaluationReport<'_>) {}
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
