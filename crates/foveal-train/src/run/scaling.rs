//! The loss scale of a run with `train.precision = "f16"`, and the steps that it left out.

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::update::{FIRST_SCALE, LARGEST_SCALE};

/// Number of steps in a row whose values overflow after which a run ends. The scale is then 2^50 times lower than
/// before them, so that the scale is not the reason.
const MOST_IN_A_ROW: u64 = 50;

/// The loss scale of a run with `train.precision = "f16"`, and how many steps it left out because their loss or
/// gradient norm was not finite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScaling {
    /// The factor by which the loss is multiplied before the backward pass: in a training state and at the end of a run
    /// that of the next step, in a line of the log that of the last step.
    pub scale: f64,
    /// Number of steps of the run that were left out.
    pub skipped: u64,
    /// Number of steps that were left out since the last one that was not.
    pub in_a_row: u64,
}

impl Default for LossScaling {
    /// The state before the first step: the scale 65536, as in `torch.amp.GradScaler`.
    fn default() -> Self {
        Self { scale: FIRST_SCALE, skipped: 0, in_a_row: 0 }
    }
}

impl LossScaling {
    /// Counts a step that was computed with `scale`; `sound` is whether its loss and gradient norm were finite.
    pub(super) fn count(&mut self, scale: f64, sound: bool) {
        self.scale = scale;
        if sound {
            self.in_a_row = 0;
        } else {
            (self.skipped, self.in_a_row) = (self.skipped + 1, self.in_a_row + 1);
        }
    }

    /// Checks the number of steps that were left out in a row, up to the step `step`.
    ///
    /// # Errors
    /// [`TrainError::Overflow`], as yet without the finding, when the run ends.
    pub(super) fn check(&self, step: u64) -> Result<(), TrainError> {
        match self.in_a_row < MOST_IN_A_ROW {
            true => Ok(()),
            false => Err(TrainError::Overflow { step, count: self.in_a_row, scale: self.scale, finding: None }),
        }
    }

    /// Checks numbers that were read from a file.
    ///
    /// # Errors
    /// What was expected and found.
    pub(super) fn validate(&self) -> Result<(), String> {
        match self.scale > 0.0 && self.scale <= LARGEST_SCALE {
            true => Ok(()),
            false => Err(format!("expected a loss scale above 0 and at most {LARGEST_SCALE}, found {}", self.scale)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_steps_in_a_row_end_a_run_and_a_sound_one_in_between_does_not() {
        let mut scaling = LossScaling::default();
        for step in 1..=49 {
            scaling.count(0.5, false);
            scaling.check(step).unwrap();
        }
        scaling.count(0.25, true);
        assert_eq!(scaling, LossScaling { scale: 0.25, skipped: 49, in_a_row: 0 });
        for step in 51..=99 {
            scaling.count(0.125, false);
            scaling.check(step).unwrap();
        }
        scaling.count(0.0625, false);
        let error = scaling.check(100).unwrap_err();
        assert!(matches!(error, TrainError::Overflow { step: 100, count: 50, scale: 0.0625, .. }), "{error}");
        assert_eq!(scaling.skipped, 99);
    }

    #[test]
    fn scales_that_no_run_reaches_are_refused() {
        for scale in [0.0, -1.0, 1e9, f64::NAN] {
            assert!(LossScaling { scale, ..LossScaling::default() }.validate().is_err(), "{scale}");
        }
        assert_eq!(LossScaling { scale: 1e-30, ..LossScaling::default() }.validate(), Ok(()));
    }
}
