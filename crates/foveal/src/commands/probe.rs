//! Times the optimizer steps of a configuration, for `foveal lab --budget` and `foveal init --minutes`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use foveal_train::{EpochStart, Outcome, Progress, RunConfig, RunDir, Start, StepClock, StepRecord, StepTiming, train};

/// Seconds after which no further step is timed.
const SECONDS: f64 = 10.0;
/// Learning rate of the timed steps. They cost the same with any rate, and with this one no configuration diverges in
/// them.
const LR: f64 = 1e-9;
/// Number of epochs that no timing reaches, so that it ends without an evaluation.
const EPOCHS: usize = 1_000_000;

/// How long the steps of a configuration took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Timing {
    /// Mean duration of a step in seconds, including the loading of its images.
    pub step_seconds: f64,
    /// Number of steps that were timed.
    pub steps: u64,
    /// Number of optimizer steps in an epoch.
    pub steps_per_epoch: usize,
    /// Seconds from the beginning of the training, with reading the data set, to the end of the first step.
    pub start_seconds: f64,
}

/// Trains with a configuration for some seconds, in a folder within `folder` that is removed afterwards, and times the
/// steps. `None` if interrupted.
///
/// # Errors
/// If the configuration, the data or the weights cannot be used, or a file cannot be written.
pub(super) fn time(
    config: &RunConfig,
    folder: &Path,
    device: &Device,
    interrupted: &AtomicBool,
) -> Result<Option<Timing>> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let place = tempfile::Builder::new().prefix(".timing-").tempdir_in(folder);
    let place = place.with_context(|| format!("cannot create a folder in {}", folder.display()))?;
    let run = RunDir::create(&place.path().join("run"))?;
    let mut config = config.clone();
    let settings = &mut config.train;
    (settings.lr, settings.epochs, settings.max_steps) = (LR, EPOCHS, 0);
    (settings.eval_every, settings.keep) = (0, 0);
    (settings.time_limit, settings.patience, settings.tensorboard) = (0.0, 0, false);
    let stop = AtomicBool::new(false);
    let mut clock = Clock::new(&config, interrupted, &stop);
    let outcome = train(&config, device, &run, Start::New, &mut clock, &stop)?;
    if interrupted.load(Ordering::Relaxed) {
        return Ok(None);
    }
    match (clock.timing(), outcome) {
        (Some(timing), Outcome::Interrupted { .. }) => Ok(Some(timing)),
        _ => bail!("the training ended before three steps were timed"),
    }
}

/// Times optimizer steps, and stops the training when their duration is known.
struct Clock<'a> {
    interrupted: &'a AtomicBool,
    stop: &'a AtomicBool,
    steps_per_epoch: usize,
    steps: StepClock,
}

impl<'a> Clock<'a> {
    fn new(config: &RunConfig, interrupted: &'a AtomicBool, stop: &'a AtomicBool) -> Self {
        Self { interrupted, stop, steps_per_epoch: 0, steps: StepClock::new(config, SECONDS, 0) }
    }

    fn timing(&self) -> Option<Timing> {
        let StepTiming { step_seconds, steps, start_seconds } = self.steps.timing()?;
        Some(Timing { step_seconds, steps, steps_per_epoch: self.steps_per_epoch, start_seconds })
    }
}

impl Progress for Clock<'_> {
    fn epoch_start(&mut self, start: &EpochStart) {
        self.steps_per_epoch = start.steps;
    }

    fn step(&mut self, step: u64, read: Option<&StepRecord>) {
        if self.interrupted.load(Ordering::Relaxed) {
            self.stop.store(true, Ordering::Relaxed);
        }
        // Without a line of the log, an accelerator may still be computing the step.
        if read.is_some() && self.steps.finished(step) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_counts_steps_that_the_device_has_finished() {
        let record: StepRecord = serde_json::from_value(serde_json::json!({
            "step": 1, "epoch": 1, "lr": 0.1, "loss": 1.0, "class_loss": 1.0, "box_loss": 0.0, "positives": 1.0,
            "positive_loss": 1.0, "negative_loss": 0.0, "positive_share": 1.0, "grad_norm": 1.0,
            "images_per_second": 1.0, "data_wait": 0.0
        }))
        .unwrap();
        let mut config = RunConfig::default();
        // Six batches can be loaded in advance, which are three steps of two batches each.
        (config.data.queue, config.data.workers, config.train.accumulate) = (4, 2, 2);
        let (interrupted, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut clock = Clock::new(&config, &interrupted, &stop);
        clock.epoch_start(&EpochStart { epoch: 1, epochs: EPOCHS, steps: 40, done: 0, run_steps: 40 });
        // Three steps use up what was loaded before, and 200 are timed, of which the device is waited for in every
        // second one.
        for step in 1..=203 {
            assert!(!stop.load(Ordering::Relaxed), "{step}");
            clock.step(step, (step % 2 == 1).then_some(&record));
        }
        let timing = clock.timing().unwrap();
        assert!(stop.load(Ordering::Relaxed) && timing.step_seconds >= 0.0);
        assert_eq!((timing.steps, timing.steps_per_epoch), (200, 40));

        let stop = AtomicBool::new(false);
        let mut clock = Clock::new(&config, &interrupted, &stop);
        interrupted.store(true, Ordering::Relaxed);
        clock.step(1, None);
        assert!(stop.load(Ordering::Relaxed));
    }
}
