//! `train.time_limit`: turns minutes into a number of optimizer steps, from the duration of the first ones.
//!
//! The number is computed when enough steps are timed, and again only if the run would then take longer than its limit,
//! or much less. The whole schedule is fitted to it. The training state keeps it, so that a resumed run goes on with
//! it.

use std::time::{Duration, Instant};

use super::Trainer;
use crate::config::RunConfig;
use crate::device::is_host;
use crate::error::TrainError;
use crate::run::{StateMeta, TimeLimit, TimeLimitEvent, TimeLimitRecord};
use crate::step_clock::StepClock;

/// Part of the limit that a number of steps is computed for.
const AIM: f64 = 0.96;
/// Part of the limit below which a shortened run that would end earlier is given more steps.
const SHORT: f64 = 0.9;
/// Part of the limit for which steps are timed.
const TIMED: f64 = 0.05;
/// Longest time in seconds for which steps are timed.
const LONGEST_TIMED: f64 = 10.0;
/// Part of the limit for which a first evaluation is timed.
const TIMED_EVALUATION: f64 = 0.02;
/// Factor between an evaluation that was timed on a few images early in the run and one at its end, which has more
/// detections.
const LATER: f64 = 1.3;
/// Factor between the saving of the first training state, and that of the last state, which has moments, together with
/// the checkpoints.
const CLOSING: f64 = 4.0;

/// Measures the time of a run with a limit.
pub(super) struct TimeKeeper {
    /// The configuration before it was fitted to a number of steps.
    unfitted: RunConfig,
    /// When this process began with the run.
    begin: Instant,
    /// Seconds that earlier processes had taken.
    before: f64,
    clock: StepClock,
    /// Duration in seconds of a step when steps were last timed; 0 before that.
    step: f64,
    /// Duration in seconds of the last whole evaluation, else what a few images let expect; `None` before that.
    evaluation: Option<f64>,
    /// Seconds that the last state and checkpoints are expected to take.
    closing: f64,
    /// Whether the run was compared with its limit once.
    compared: bool,
}

/// The time limit of a state if the run goes on with the same limit and the same length of an epoch; otherwise its
/// seconds alone, and the number of steps is computed anew. `None` without a limit.
pub(super) fn kept(config: &RunConfig, saved: Option<TimeLimit>, before: usize, now: usize) -> Option<TimeLimit> {
    let minutes = config.train.time_limit;
    let limit = saved.unwrap_or_default();
    let steps = limit.steps.filter(|_| limit.minutes == minutes && before == now);
    (minutes > 0.0).then_some(TimeLimit { minutes, steps, ..limit })
}

/// What a resumed run says about its time limit.
pub(super) fn resumed_text(limit: &TimeLimit) -> String {
    let TimeLimit { minutes, seconds, steps } = limit;
    let steps = match steps {
        Some(steps) => format!("the run goes on to step {steps}"),
        None => "the number of steps is not limited yet".to_owned(),
    };
    format!("train.time_limit: {seconds:.0} s of {minutes} minutes are used; {steps}")
}

/// The configuration of a run that its time limit has shortened; `None` if it has not.
pub(super) fn limited(config: &RunConfig, meta: &StateMeta, steps_per_epoch: usize) -> Option<RunConfig> {
    let steps = meta.time_limit?.steps?;
    let mut limited = config.clone();
    limited.fit_to_steps(steps, steps_per_epoch, full_steps(config, steps_per_epoch) as f64 / steps_per_epoch as f64);
    Some(limited)
}

/// Whether a run with this configuration has made all steps that its time limit leaves it.
pub(super) fn is_over(config: &RunConfig, meta: &StateMeta) -> bool {
    config.train.time_limit > 0.0
        && meta.time_limit.and_then(|limit| limit.steps).is_some_and(|steps| meta.step >= steps)
}

/// Number of optimizer steps of a run without a time limit.
fn full_steps(config: &RunConfig, steps_per_epoch: usize) -> u64 {
    let steps = (config.train.epochs * steps_per_epoch) as u64;
    match config.train.max_steps as u64 {
        0 => steps,
        most => most.min(steps),
    }
}

/// The largest number of steps from `done` to `full` whose expected seconds, which never fall, are at most `aim`;
/// `done` if there is none.
fn most_steps(done: u64, full: u64, aim: f64, seconds: impl Fn(u64) -> f64) -> u64 {
    let (mut low, mut high) = (done, full);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if seconds(middle) <= aim { low = middle } else { high = middle - 1 }
    }
    low
}

impl TimeKeeper {
    /// Begins to keep the time of a run that has `done` steps, and that began at `begin` in this process. `saving` is
    /// how long the first training state took.
    pub(super) fn new(config: &RunConfig, limit: TimeLimit, done: u64, begin: Instant, saving: Duration) -> Self {
        let seconds = (60.0 * limit.minutes * TIMED).min(LONGEST_TIMED);
        Self {
            unfitted: config.clone(),
            begin,
            before: limit.seconds,
            clock: StepClock::new(config, seconds, done),
            step: 0.0,
            evaluation: None,
            closing: CLOSING * saving.as_secs_f64(),
            compared: false,
        }
    }

    /// Seconds of the run so far, in all processes.
    pub(super) fn seconds(&self) -> f64 {
        self.before + self.begin.elapsed().as_secs_f64()
    }

    /// Takes over the duration of a whole evaluation, which is no step.
    pub(super) fn evaluated(&mut self, duration: Duration) {
        self.evaluation = Some(duration.as_secs_f64());
        self.clock.leave_out(duration);
    }
}

impl Trainer<'_> {
    /// Number of optimizer steps of the whole run, as far as it is known.
    pub(super) fn run_steps(&self) -> u64 {
        full_steps(&self.config, self.steps_per_epoch)
    }

    /// Whether the run has made all steps that its time limit leaves it.
    pub(super) fn is_out_of_time(&self) -> bool {
        is_over(&self.config, &self.session.meta)
    }

    /// Compares the run with its time limit after a step, and shortens it where that is needed.
    ///
    /// # Errors
    /// When a first evaluation is timed: those of an evaluation.
    pub(super) fn keep_time(&mut self, epoch: usize) -> Result<(), TrainError> {
        let limit = 60.0 * self.config.train.time_limit;
        let step = self.session.meta.step;
        // On an accelerator only work that was read is known to be done.
        let read = is_host(&self.device) || self.step_log.is_all_read();
        let Some(time) = &mut self.time else { return Ok(()) };
        if !read {
            return Ok(());
        }
        let enough = time.clock.finished(step);
        // Steps that are so slow that three of them do not fit end at once.
        let late = time.seconds() >= limit * AIM;
        if !enough && !late {
            return Ok(());
        }
        let Some(timing) = time.clock.timing() else {
            if late {
                let (seconds, evaluation) = (time.step, time.evaluation.unwrap_or_default());
                self.limit_to(step, epoch, seconds, evaluation);
            }
            return Ok(());
        };
        if time.evaluation.is_none() {
            let begun = Instant::now();
            let network = self.session.learner.network();
            let expected = LATER * self.evaluator.time(&network, limit * TIMED_EVALUATION)?;
            time.evaluation = Some(expected);
            time.clock.leave_out(begun.elapsed());
        }
        let evaluation = time.evaluation.unwrap_or_default();
        let (used, closing, compared) = (time.seconds(), time.closing, time.compared);
        time.compared = true;
        time.step = timing.step_seconds;
        time.clock.restart(step);

        let (steps_per_epoch, eval_every) = (self.steps_per_epoch as u64, self.config.train.eval_every as u64);
        let position = self.session.meta.epoch as u64 * steps_per_epoch + self.session.meta.epoch_steps;
        let seconds = |steps: u64| {
            let end = position + (steps - step);
            let evaluations = evaluations(position, end, steps_per_epoch * eval_every);
            used + (steps - step) as f64 * timing.step_seconds + evaluations as f64 * evaluation + closing
        };
        let full = full_steps(&time.unfitted, self.steps_per_epoch);
        let planned = self.session.meta.time_limit.and_then(|limit| limit.steps);
        let expected = seconds(planned.unwrap_or(full).max(step));
        let longest = if compared { limit } else { limit * AIM };
        let steps = match planned {
            _ if expected > longest => most_steps(step, full, limit * AIM, seconds),
            Some(_) if expected < limit * SHORT => most_steps(step, full, limit * AIM, seconds),
            _ => return Ok(()),
        };
        self.limit_to(steps, epoch, timing.step_seconds, evaluation);
        Ok(())
    }

    /// Fits the run to a number of steps, and tells it.
    fn limit_to(&mut self, steps: u64, epoch: usize, step_seconds: f64, evaluation_seconds: f64) {
        let Some(time) = &self.time else { return };
        let seconds = time.seconds();
        let limit = self.session.meta.time_limit.get_or_insert_default();
        if limit.steps == Some(steps) {
            return;
        }
        let first = limit.steps.is_none();
        (limit.minutes, limit.steps) = (self.config.train.time_limit, Some(steps));
        if let Some(config) = limited(&time.unfitted, &self.session.meta, self.steps_per_epoch) {
            self.config = config;
        }
        let epochs = steps as f64 / self.steps_per_epoch as f64;
        let step = self.session.meta.step;
        let event = TimeLimitEvent::TimeLimit;
        let record = TimeLimitRecord { event, epoch, step, steps, epochs, seconds, step_seconds, evaluation_seconds };
        self.log.line(&record);
        self.progress.run_length(steps);
        let minutes = self.config.train.time_limit;
        self.progress.message(&match first {
            true => format!(
                "train.time_limit: at {step_seconds:.3} s a step and {evaluation_seconds:.1} s an evaluation, {minutes} \
                 minutes are enough for {steps} steps ({epochs:.2} epochs), to which the schedule is fitted. The number \
                 depends on the speed of this machine, so that this run cannot be reproduced from its configuration."
            ),
            false => format!(
                "train.time_limit: at {step_seconds:.3} s a step after step {step}, the run now makes {steps} steps \
                 ({epochs:.2} epochs)"
            ),
        });
    }
}

/// Number of evaluations of a run that goes on at the position `from`, in steps of whole epochs, and ends at `end`,
/// where it is evaluated in any case. `every` is the number of steps between two evaluations; 0 stands for none before
/// the end.
fn evaluations(from: u64, end: u64, every: u64) -> u64 {
    if every == 0 {
        return 1;
    }
    end / every - from / every + u64::from(!end.is_multiple_of(every))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny;

    #[test]
    fn the_steps_that_fit_are_found() {
        // 10 s, then 2 s a step and 5 s for an evaluation every 4 steps and at the end.
        let seconds = |steps: u64| 10.0 + 2.0 * (steps - 3) as f64 + 5.0 * evaluations(3, steps, 4) as f64;
        assert_eq!(seconds(4), 17.0);
        // Step 5 needs an evaluation of its own: 10 + 4 + 10 = 24 s.
        assert_eq!([16.0, 17.0, 23.5, 24.0, 1e9].map(|aim| most_steps(3, 12, aim, seconds)), [3, 4, 4, 5, 12]);
        assert_eq!(most_steps(7, 7, 0.0, seconds), 7);
        assert_eq!([evaluations(3, 9, 0), evaluations(4, 8, 4), evaluations(4, 9, 4)], [1, 1, 2]);
    }

    #[test]
    fn a_resumed_run_keeps_its_steps_unless_the_limit_or_the_epochs_are_others() {
        let mut config = tiny();
        let saved = TimeLimit { minutes: 2.0, seconds: 30.5, steps: Some(9) };
        assert_eq!(kept(&config, Some(saved), 4, 4), None);
        config.train.time_limit = 2.0;
        assert_eq!(kept(&config, Some(saved), 4, 4), Some(saved));
        assert_eq!(kept(&config, Some(saved), 4, 8), Some(TimeLimit { steps: None, ..saved }));
        assert_eq!(kept(&config, None, 4, 4), Some(TimeLimit { minutes: 2.0, ..TimeLimit::default() }));
        config.train.time_limit = 3.0;
        assert_eq!(kept(&config, Some(saved), 4, 4), Some(TimeLimit { minutes: 3.0, steps: None, ..saved }));
    }

    #[test]
    fn a_limited_run_has_a_fitted_schedule_and_ends_at_its_steps() {
        let mut config = tiny();
        (config.train.epochs, config.train.time_limit, config.train.max_steps) = (6, 1.0, 20);
        let mut meta = StateMeta::start(0, foveal_detector::ModelConfig::default(), Vec::new());
        assert_eq!((full_steps(&config, 4), limited(&config, &meta, 4)), (20, None));
        meta.time_limit = Some(TimeLimit { minutes: 1.0, seconds: 0.0, steps: Some(10) });
        let fitted = limited(&config, &meta, 4).unwrap();
        // Ten of twenty steps: half of each milestone.
        assert_eq!((fitted.train.max_steps, fitted.train.epochs), (10, 3));
        assert_eq!(fitted.train.milestones[0], 0.5 * config.train.milestones[0]);
        assert!(!is_over(&fitted, &meta));
        meta.step = 10;
        assert!(is_over(&fitted, &meta));
    }
}
