//! Times the optimizer steps of a configuration, for `foveal lab --budget` and `foveal init --minutes`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use foveal_train::{EpochStart, Outcome, Progress, RunConfig, RunDir, Start, StepRecord, train};

/// Fewest steps before the clock starts. More follow if batches were loaded in advance.
const WARM_UP: usize = 3;
/// Seconds after the first step after which no further step is made before the clock starts.
const WARM_UP_SECONDS: f64 = 10.0;
/// Fewest steps that are timed.
const FEWEST: u64 = 3;
/// Most steps that are timed.
const MOST: u64 = 200;
/// Seconds after which no further step is timed.
const SECONDS: f64 = 10.0;
/// Learning rate of the timed steps. They cost the same with any rate, and with this one no configuration diverges in them.
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
    let stop = AtomicBool::new(false);
    let mut clock = Clock::new(&config, interrupted, &stop);
    let outcome = train(&config, device, &run, Start::New, &mut clock, &stop)?;
    if interrupted.load(Ordering::Relaxed) {
        return Ok(None);
    }
    match (clock.timing(), outcome) {
        (Some(timing), Outcome::Interrupted { .. }) => Ok(Some(timing)),
        _ => bail!("the training ended before {FEWEST} steps were timed"),
    }
}

/// Measures the time between optimizer steps, and stops the training when that is known.
struct Clock<'a> {
    interrupted: &'a AtomicBool,
    stop: &'a AtomicBool,
    /// Number of steps before the clock starts.
    warm_up: u64,
    steps_per_epoch: usize,
    /// When the training began.
    begin: Instant,
    /// The first step after which the device was waited for, and when.
    first: Option<Instant>,
    /// When the clock started, and after which step.
    start: Option<(Instant, u64)>,
    /// The seconds and the number of steps that are timed so far.
    timed: (f64, u64),
}

impl<'a> Clock<'a> {
    fn new(config: &RunConfig, interrupted: &'a AtomicBool, stop: &'a AtomicBool) -> Self {
        // Batches that were loaded while the network was built cost no time; they are used up before the clock starts.
        let loaded = config.data.queue + config.data.worker_count();
        let warm_up = loaded.div_ceil(config.train.accumulate).max(WARM_UP) as u64;
        let begin = Instant::now();
        Self { interrupted, stop, warm_up, steps_per_epoch: 0, begin, first: None, start: None, timed: (0.0, 0) }
    }

    fn timing(&self) -> Option<Timing> {
        let (seconds, steps) = self.timed;
        let step_seconds = seconds / steps.max(1) as f64;
        let start_seconds = self.first?.duration_since(self.begin).as_secs_f64();
        let steps_per_epoch = self.steps_per_epoch;
        (steps >= FEWEST).then_some(Timing { step_seconds, steps, steps_per_epoch, start_seconds })
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
        if read.is_none() {
            return;
        }
        let now = Instant::now();
        let first = *self.first.get_or_insert(now);
        let waited = now.duration_since(first).as_secs_f64();
        match self.start {
            None if step >= self.warm_up || (step > 1 && waited >= WARM_UP_SECONDS) => self.start = Some((now, step)),
            None => {}
            Some((at, before)) => {
                self.timed = (now.duration_since(at).as_secs_f64(), step - before);
                let (seconds, steps) = self.timed;
                if steps >= MOST || (steps >= FEWEST && seconds >= SECONDS) {
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
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
        clock.epoch_start(&EpochStart { epoch: 1, epochs: EPOCHS, steps: 40, done: 0 });
        for step in 1..=3 {
            clock.step(step, Some(&record));
        }
        assert_eq!((clock.start.unwrap().1, clock.timing()), (3, None));
        // An accelerator that is waited for in every second step.
        let last = 3 + MOST;
        for step in 4..=last {
            assert!(!stop.load(Ordering::Relaxed), "{step}");
            clock.step(step, (step % 2 == last % 2).then_some(&record));
        }
        let timing = clock.timing().unwrap();
        assert!(stop.load(Ordering::Relaxed) && timing.step_seconds >= 0.0);
        assert_eq!((timing.steps, timing.steps_per_epoch), (MOST, 40));

        let stop = AtomicBool::new(false);
        let mut clock = Clock::new(&config, &interrupted, &stop);
        interrupted.store(true, Ordering::Relaxed);
        clock.step(1, None);
        assert!(stop.load(Ordering::Relaxed));
    }
}
