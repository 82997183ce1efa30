//! The check of a fresh run's first class loss, before the first update.

use foveal_anchors::ImageTargets;
use foveal_criterion::{BreakdownRecord, Expected, LossConfig, Normalizer, StartCheck, TOLERANCE};
use foveal_detector::ModelConfig;

use crate::error::TrainError;

/// What the first class loss must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstLoss<'a> {
    start: StartCheck<'a>,
    expected: Expected,
}

impl<'a> FirstLoss<'a> {
    /// For a new class head and the targets of the first update, as the loss sees them.
    pub(crate) fn new(
        loss: &'a LossConfig,
        model: &ModelConfig,
        classes: usize,
        targets: &[ImageTargets],
        normalizer: Normalizer,
    ) -> Self {
        let start = StartCheck {
            config: loss,
            prior: model.head.prior,
            channels: model.fpn_channels,
            convs: model.head.convs,
            outputs: model.anchors.anchors_per_location() * classes,
            classes,
        };
        Self { start, expected: start.expected(targets, normalizer) }
    }

    /// Compares.
    ///
    /// # Errors
    /// [`TrainError::FirstLoss`] with the likely cause.
    pub(crate) fn check(&self, found: &BreakdownRecord) -> Result<(), TrainError> {
        let Expected { at_prior, low, high, positives, .. } = self.expected;
        self.start.check(found, &self.expected).map_err(|fault| TrainError::FirstLoss {
            found: found.positive.loss + found.negative.loss,
            positive: found.positive.loss,
            positives,
            expected: at_prior.total(),
            low: low.total() / TOLERANCE,
            high: high.total() * TOLERANCE,
            fault,
        })
    }
}

#[cfg(test)]
mod tests;
