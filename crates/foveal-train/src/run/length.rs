//! The time of a run with `train.time_limit`, as its training state keeps it.

use serde::{Deserialize, Serialize};

/// Largest number of seconds of a run, more than 30 years.
const MOST_SECONDS: f64 = 1e9;
/// Largest number of steps, 2^53, which `f64` still holds exactly.
const MOST_STEPS: u64 = 1 << 53;

/// The time that a run with `train.time_limit` has taken, and the number of steps that it makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimeLimit {
    /// Minutes of the limit (`train.time_limit`).
    pub minutes: f64,
    /// Seconds that the run had taken when the state was saved, in all of its processes. Those after the last state of
    /// a process that was killed are not counted.
    pub seconds: f64,
    /// Number of optimizer steps of the whole run; `None` if `train.epochs` and `train.max_steps` end it, or while the
    /// first steps are timed.
    #[serde(default)]
    pub steps: Option<u64>,
}

impl TimeLimit {
    /// Checks numbers that were read from a file.
    ///
    /// # Errors
    /// What was expected and found.
    pub(super) fn validate(&self) -> Result<(), String> {
        let sound = (0.0..=MOST_SECONDS).contains(&self.seconds) && self.steps.is_none_or(|steps| steps <= MOST_STEPS);
        match sound {
            true => Ok(()),
            false => Err(format!(
                "expected a time limit with at most {MOST_SECONDS} seconds and {MOST_STEPS} steps, found {self:?}"
            )),
        }
    }
}
