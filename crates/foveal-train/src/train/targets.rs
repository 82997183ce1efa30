//! Checks the targets of an optimizer step and computes the normalizer of its losses from them.

use foveal_criterion::{Normalizer, NormalizerKind, SmoothedPositives};
use foveal_data::Batch;

use crate::error::TrainError;

/// The normalizer of the losses of an optimizer step, from the targets of all its batches. `average` is the moving
/// average of the number of positive anchors, which is updated if `loss.normalizer = "ema"`.
pub(super) fn normalizer(kind: NormalizerKind, average: &mut f64, batches: &[Batch]) -> Normalizer {
    let targets = batches.iter().flat_map(|batch| &batch.targets);
    if kind != NormalizerKind::Ema {
        return Normalizer::of(kind, targets);
    }
    let mut smoothed = SmoothedPositives(*average);
    *average = smoothed.update(targets.map(|t| t.positives.len()).sum());
    Normalizer::Smoothed(*average)
}

/// Checks that the class of every target is below `classes`, the number of classes in the label map.
///
/// # Errors
/// [`TrainError::Class`] with the first image that has another class.
pub(super) fn check_classes(batch: &Batch, classes: usize) -> Result<(), TrainError> {
    for (targets, info) in batch.targets.iter().zip(&batch.info) {
        if let Some(positive) = targets.positives.iter().find(|p| p.class as usize >= classes) {
            return Err(TrainError::Class { image_id: info.image_id, class: positive.class, classes });
        }
    }
    Ok(())
}
