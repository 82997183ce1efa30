//! The time that a run is expected to take.

use std::time::Instant;

/// Fewest steps from which the time of a run is computed.
const FEWEST: u64 = 3;

/// Estimates the time until the end of a run from the steps that this process has made, with the evaluations between
/// them.
#[derive(Debug, Default)]
pub(super) struct TimeLeft {
    /// Number of steps of the whole run.
    run_steps: u64,
    /// The first step of this process, and when it was done.
    first: Option<(u64, Instant)>,
}

impl TimeLeft {
    /// Takes over the number of steps of the whole run.
    pub(super) fn epoch(&mut self, run_steps: u64) {
        self.run_steps = run_steps;
    }

    /// The text about the time that is left after the step `step`; empty while it is unknown.
    pub(super) fn step(&mut self, step: u64) -> String {
        let (first, since) = *self.first.get_or_insert_with(|| (step, Instant::now()));
        // After a rewind, a step can be lower than the first one.
        let done = step.saturating_sub(first);
        let left = self.run_steps.saturating_sub(step);
        if done < FEWEST || left == 0 {
            return String::new();
        }
        let seconds = since.elapsed().as_secs_f64() / done as f64 * left as f64;
        format!(", run {} left", clock(seconds))
    }
}

/// A duration in seconds as hours, minutes and seconds, with days where it has some.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let days = if days > 0 { format!("{days}d ") } else { String::new() };
    format!("{days}{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_known_after_some_steps_until_the_last_one() {
        let mut left = TimeLeft::default();
        left.epoch(20);
        assert!([10, 11, 12].iter().all(|step| left.step(*step).is_empty()));
        assert_eq!(left.step(13), ", run 00:00:00 left");
        assert_eq!(left.step(20), "");
        assert_eq!(left.step(5), "");
        assert_eq!([59.6, 3661.0, 200_000.0].map(clock), ["00:01:00", "01:01:01", "2d 07:33:20"]);
    }
}
