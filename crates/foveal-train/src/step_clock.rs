//! Measures the duration of optimizer steps during training.

use std::time::{Duration, Instant};

use crate::config::RunConfig;

/// Fewest steps before the clock starts. More follow if batches were loaded in advance.
const WARM_UP: usize = 3;
/// Fewest steps that are timed.
const FEWEST: u64 = 3;
/// Most steps that are timed.
const MOST: u64 = 200;

/// How long the optimizer steps of a run took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTiming {
    /// Mean duration of a step in seconds, including the loading of its images.
    pub step_seconds: f64,
    /// Number of steps that were timed.
    pub steps: u64,
    /// Seconds from the beginning of the training, with reading the data set, to the end of the first step.
    pub start_seconds: f64,
}

/// Measures the time between optimizer steps, after those that a start makes faster or slower than the others: batches
/// that were loaded while the network was built cost no time and are used up first, and so are the first steps.
#[derive(Debug)]
pub struct StepClock {
    /// Number of the step after which the clock starts.
    warm_up: u64,
    /// Seconds for which steps are timed; the clock also starts when so many have passed since the first step.
    seconds: f64,
    /// When the training began.
    begin: Instant,
    /// The first step after which the device was waited for, and when.
    first: Option<(Instant, u64)>,
    /// When the clock started, and after which step.
    start: Option<(Instant, u64)>,
    /// The seconds and the number of steps that are timed so far.
    timed: (f64, u64),
}

impl StepClock {
    /// A clock that times steps for `seconds` seconds, in a training that begins now after `done` steps.
    pub fn new(config: &RunConfig, seconds: f64, done: u64) -> Self {
        let loaded = config.data.queue + config.data.worker_count();
        let warm_up = done + loaded.div_ceil(config.train.accumulate).max(WARM_UP) as u64;
        Self { warm_up, seconds, begin: Instant::now(), first: None, start: None, timed: (0.0, 0) }
    }

    /// Tells the clock that the device has finished all work up to the step `step`, counted from 1 over the whole run.
    /// Returns whether enough steps are timed.
    pub fn finished(&mut self, step: u64) -> bool {
        let now = Instant::now();
        let (first, first_step) = *self.first.get_or_insert((now, step));
        let waited = now.duration_since(first).as_secs_f64();
        match self.start {
            None if step >= self.warm_up || (step > first_step && waited >= self.seconds) => {
                self.start = Some((now, step));
            }
            None => {}
            Some((at, before)) => self.timed = (now.duration_since(at).as_secs_f64(), step - before),
        }
        let (seconds, steps) = self.timed;
        steps >= MOST || (steps >= FEWEST && seconds >= self.seconds)
    }

    /// Leaves out work that is not a step, such as an evaluation, and that took `duration` until now.
    pub fn leave_out(&mut self, duration: Duration) {
        if let Some((at, _)) = &mut self.start {
            *at += duration;
        }
    }

    /// Begins to time the steps after `step` anew.
    pub fn restart(&mut self, step: u64) {
        (self.start, self.timed) = (Some((Instant::now(), step)), (0.0, 0));
    }

    /// What was measured so far; `None` before three steps were timed.
    pub fn timing(&self) -> Option<StepTiming> {
        let (seconds, steps) = self.timed;
        let step_seconds = seconds / steps.max(1) as f64;
        let start_seconds = self.first?.0.duration_since(self.begin).as_secs_f64();
        (steps >= FEWEST).then_some(StepTiming { step_seconds, steps, start_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_starts_when_the_batches_that_were_loaded_before_are_used_up() {
        let mut config = RunConfig::default();
        // Six batches can be loaded in advance, which are three steps of two batches each.
        (config.data.queue, config.data.workers, config.train.accumulate) = (4, 2, 2);
        let mut clock = StepClock::new(&config, 10.0, 0);
        for step in 1..=3 {
            assert!(!clock.finished(step));
        }
        assert_eq!((clock.start.unwrap().1, clock.timing()), (3, None));
        // An accelerator that is waited for in every second step.
        for step in (5..3 + MOST).step_by(2) {
            assert!(!clock.finished(step), "{step}");
        }
        assert!(clock.finished(3 + MOST));
        let timing = clock.timing().unwrap();
        assert!(timing.step_seconds >= 0.0 && timing.start_seconds >= 0.0);
        assert_eq!(timing.steps, MOST);
        // A resumed run begins to count at its step.
        let mut clock = StepClock::new(&config, 10.0, 40);
        (41..=43).for_each(|step| assert!(!clock.finished(step)));
        assert_eq!(clock.start.unwrap().1, 43);
    }

    #[test]
    fn work_that_is_no_step_is_left_out() {
        let mut clock = StepClock::new(&RunConfig::default(), 10.0, 0);
        clock.restart(7);
        std::thread::sleep(Duration::from_millis(60));
        clock.leave_out(Duration::from_millis(50));
        assert!(!clock.finished(10));
        // The clock measures from 50 ms later on than it would otherwise.
        let total = clock.begin.elapsed().as_secs_f64();
        assert!(clock.timed.0 >= 0.01 && clock.timed.0 <= total - 0.05, "{} of {total}", clock.timed.0);
    }
}
