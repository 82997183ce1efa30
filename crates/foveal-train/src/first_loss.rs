//! Check of the class loss of a new class head before the first update (`train.step0_check`).

use foveal_criterion::{BreakdownRecord, Expected, FirstLossCheck, LossConfig};
use foveal_detector::ModelConfig;

use crate::error::TrainError;
use crate::run::{Step, read_breakdown};

/// The check of the first class loss of a new class head with `classes` class channels.
pub(crate) fn first_loss_check<'a>(loss: &'a LossConfig, model: &ModelConfig, classes: usize) -> FirstLossCheck<'a> {
    FirstLossCheck {
        config: loss,
        prior: model.head.prior,
        channels: model.fpn_channels,
        convs: model.head.convs,
        outputs: model.anchors.anchors_per_location() * classes,
        classes,
    }
}

/// Waits for the device and compares the class loss of the first step with the expected class loss. Loss and gradient
/// norm of the step are finite.
///
/// # Errors
/// [`TrainError::FirstLossCheck`] with the likely cause when the class loss is not the expected one.
///
/// # Panics
/// When the step has no breakdown of its class loss.
pub(crate) fn check_first_step(check: &FirstLossCheck<'_>, expected: &Expected, step: &Step) -> Result<(), TrainError> {
    let breakdown = step.breakdown.as_ref().expect("the first step has a breakdown");
    compare(check, expected, &read_breakdown(breakdown).record())
}

/// Compares the breakdown of a class loss with the expected class loss.
///
/// # Errors
/// [`TrainError::FirstLossCheck`] with the likely cause when they differ.
fn compare(check: &FirstLossCheck<'_>, expected: &Expected, found: &BreakdownRecord) -> Result<(), TrainError> {
    check.check(found, expected).map_err(|fault| TrainError::FirstLossCheck {
        found: found.positive.loss + found.negative.loss,
        positive: found.positive.loss,
        positives: expected.positives,
        expected: expected.loss.total(),
        at_prior: expected.at_prior.total(),
        fault,
    })
}

#[cfg(test)]
mod tests;
