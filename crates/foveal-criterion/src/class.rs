//! The class loss of a batch.

use burn::tensor::Tensor;
use foveal_boxes::BBox;
use foveal_kernels::{BreakdownLayout, ClassLoss, class_losses_of_images};

use crate::breakdown::{AnchorCounts, BatchBreakdown};
use crate::config::LossConfig;
use crate::kind::Positives;
use crate::predicted::Predicted;
use crate::target_tensors::TargetTensors;
use crate::{mining, quality};

/// The class loss of a batch, already divided by the normalizer.
pub(crate) struct ClassPart {
    /// The class loss, `[1]`.
    pub(crate) loss: Tensor<1>,
    /// The loss of positive pairs and of all other pairs, `[2]`, without autodiff.
    pub(crate) sums: Tensor<1>,
    /// The breakdown, if a layout was given.
    pub(crate) breakdown: Option<BatchBreakdown>,
}

impl LossConfig {
    /// Computes the class loss from logits `[batch, anchors, classes]` and deltas `[batch, anchors, 4]`. The gradient
    /// takes the memory of the logits if the caller keeps no other handle to them. `weights` has one factor per image,
    /// or a single factor for the whole batch. `breakdown` is the layout of the breakdown and the numbers of anchors,
    /// counted on the host, if a breakdown is computed.
    pub(crate) fn class_part(
        &self,
        logits: Tensor<3>,
        deltas: &Tensor<3>,
        targets: &TargetTensors,
        weights: &[f64],
        breakdown: Option<(BreakdownLayout, AnchorCounts)>,
    ) -> ClassPart {
        let [batch, anchors, classes] = logits.dims();
        let layout = breakdown.as_ref().map(|(layout, _)| *layout);
        let ids = match &targets.keep {
            Some(keep) => mining::keep_on_device(&logits, targets.ids.clone(), keep.clone()),
            None => targets.ids.clone(),
        };
        let (params, terms) = (self.class_params(), self.class_terms());
        // A single weight is that of all images, whose loss is then computed as that of one.
        assert!([1, batch].contains(&weights.len()), "there must be one weight, or one per image");
        let quality = (self.kind.form().positives == Positives::Quality).then(|| logits.clone());
        let rows = logits.reshape([batch * anchors, classes]);
        let each = class_losses_of_images(rows, ids.clone(), weights.len(), params, &terms, layout);
        let each = each.into_iter().zip(weights).map(|(loss, weight)| scaled(loss, *weight, classes));
        let all = each.reduce(added).expect("a batch has images");
        let all = match (&quality, &targets.positives) {
            (Some(logits), Some(positives)) => {
                added(all, quality::positives(&Predicted { logits, deltas }, positives, layout))
            }
            _ => all,
        };
        let breakdown = all.breakdown.zip(breakdown).map(|(values, (layout, counts))| {
            // Where the device selects the background anchors, only it knows how many are on each level.
            let values = match targets.keep {
                Some(_) => Tensor::cat(vec![values, mining::background_by_level(&ids, layout)], 0),
                None => values,
            };
            BatchBreakdown { counts, values }
        });
        ClassPart { loss: all.loss, sums: all.sums, breakdown }
    }

    /// The loss of the pair of a positive anchor and its class, without class weight, for a given score and predicted
    /// box.
    pub(crate) fn positive_at(&self, predicted: &BBox, object: &BBox, class: usize, score: f64) -> f64 {
        match self.kind.form().positives {
            Positives::Kernel => self.pair_loss(class).positive(score),
            Positives::Quality => quality::positive_at(predicted, object, score, self.gamma.of(class)),
        }
    }
}

/// Multiplies by `weight` all values that are proportional to the loss; scores and counts stay as they are.
fn scaled(loss: ClassLoss, weight: f64, classes: usize) -> ClassLoss {
    let breakdown = loss.breakdown.map(|breakdown| {
        let (scaled, values) = (BreakdownLayout::scaled(classes), BreakdownLayout::values(classes));
        let rest = breakdown.clone().narrow(0, scaled, values - scaled);
        Tensor::cat(vec![breakdown.narrow(0, 0, scaled) * weight, rest], 0)
    });
    ClassLoss { loss: loss.loss * weight, sums: loss.sums * weight, breakdown }
}

/// The sum of two class losses and their breakdowns.
fn added(a: ClassLoss, b: ClassLoss) -> ClassLoss {
    let breakdown = a.breakdown.zip(b.breakdown).map(|(a, b)| a + b);
    ClassLoss { loss: a.loss + b.loss, sums: a.sums + b.sums, breakdown }
}
