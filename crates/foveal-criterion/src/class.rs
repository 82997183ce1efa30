//! The class loss of a batch.

use burn::tensor::Tensor;
use foveal_anchors::ImageTargets;
use foveal_boxes::BBox;
use foveal_kernels::{BreakdownLayout, ClassLoss, class_loss_with};

use crate::breakdown::{AnchorCounts, BatchBreakdown};
use crate::config::LossConfig;
use crate::kind::{Participants, Positives};
use crate::predicted::{Predicted, int_tensor};
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
    /// Computes the class loss. `weights` has one factor per image, or a single factor for the whole batch.
    pub(crate) fn class_part(
        &self,
        predicted: &Predicted<'_>,
        targets: &[ImageTargets],
        weights: &[f64],
        layout: Option<BreakdownLayout>,
    ) -> ClassPart {
        let [batch, anchors, classes] = predicted.logits.dims();
        let device = predicted.logits.device();
        let mut ids: Vec<i32> = targets.iter().flat_map(|t| t.classes.iter().copied()).collect();
        assert_eq!(ids.len(), batch * anchors, "the targets must have one class per anchor of the batch");
        let form = self.kind.form();
        if form.anchors == Participants::Hardest {
            mining::keep_hardest(predicted.logits, &mut ids, self.ohem_ratio);
        }
        let (params, terms) = (self.class_params(), self.class_terms());
        let of = |rows: Tensor<2>, ids: &[i32], weight: f64| {
            scaled(class_loss_with(rows, int_tensor(ids, &device), params, &terms, layout), weight, classes)
        };
        let all = if let [weight] = weights {
            of(predicted.logits.clone().reshape([batch * anchors, classes]), &ids, *weight)
        } else {
            assert_eq!(weights.len(), batch, "there must be one weight per image");
            let images = (0..batch).map(|i| {
                let rows = predicted.logits.clone().narrow(0, i, 1).reshape([anchors, classes]);
                of(rows, &ids[i * anchors..(i + 1) * anchors], weights[i])
            });
            images.reduce(added).expect("a batch has images")
        };
        let positives = match form.positives {
            Positives::Kernel => None,
            Positives::Quality => quality::positives(self, predicted, targets, weights, layout),
        };
        let all = match positives {
            Some(positives) => added(all, positives),
            None => all,
        };
        let breakdown = all
            .breakdown
            .zip(layout)
            .map(|(values, layout)| BatchBreakdown { counts: AnchorCounts::of(&ids, layout, classes), values });
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
