//! The targets of an update: their check, and the divisor of the losses.

use foveal_criterion::{Normalizer, NormalizerKind, SmoothedPositives};
use foveal_data::Batch;

use crate::error::TrainError;

/// The divisor of an update's losses, from the targets of all its batches. `average` is the moving average of the
/// positives, which `loss.normalizer = "ema"` keeps.
pub(super) fn normalizer(kind: NormalizerKind, average: &mut f64, batches: &[Batch]) -> Normalizer {
    let targets = batches.iter().flat_map(|batch| &batch.targets);
    if kind != NormalizerKind::Ema {
        return Normalizer::of(kind, targets);
    }
    let mut smoothed = SmoothedPositives(*average);
    *average = smoothed.update(targets.map(|t| t.positives.len()).sum());
    Normalizer::Smoothed(*average)
}

/// Checks that every object's class is one of the network's.
///
/// # Errors
/// [`TrainError::Class`] with the image.
pub(super) fn check_classes(batch: &Batch, classes: usize) -> Result<(), TrainError> {
    for (targets, info) in batch.targets.iter().zip(&batch.info) {
        if let Some(positive) = targets.positives.iter().find(|p| p.class as usize >= classes) {
            return Err(TrainError::Class { image_id: info.image_id, class: positive.class, classes });
        }
    }
    Ok(())
}
