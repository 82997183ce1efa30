//! The breakdown of the class loss as it is written to a log.

use serde::{Deserialize, Serialize};

/// The breakdown of the class loss as it is written to `log.jsonl`. Counts and losses are means over the steps that the
/// line covers; losses and gradients are divided by the normalizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakdownRecord {
    /// Fraction of the class loss that comes from the positive pairs, from 0 to 1.
    pub positive_share: f64,
    /// Fraction of the summed magnitudes of the gradients that comes from the positive pairs, from 0 to 1.
    pub positive_gradient_share: f64,
    /// Fraction of the negative pairs that contributes half of the negatives' loss, from 0 to 1:
    /// [`LossBreakdown::half_loss_fraction`](super::LossBreakdown::half_loss_fraction).
    pub half_of_negative_loss: f64,
    /// Number of ignored anchors, which take no part in the loss.
    pub ignored: f64,
    /// The positive pairs: an anchor and the class of its object.
    pub positive: SideRecord,
    /// The negative pairs: a background anchor and any class, or a positive anchor and a class other than that of its
    /// object.
    pub negative: SideRecord,
    /// The pyramid levels P3 to P7, in this order.
    pub levels: Vec<LevelRecord>,
    /// Numbers of positive anchors, and losses of the positive and negative pairs, of each class channel, rounded to
    /// five significant digits. Only some lines about steps have them (`train.log_classes_every`).
    #[serde(default, skip_serializing_if = "ClassRecord::is_empty")]
    pub classes: ClassRecord,
    /// Histogram of the negative pairs by their loss. Only the line of an epoch has it. Empty bins are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub negative_bins: Vec<BinRecord>,
}

/// The positive pairs or the negative pairs of a [`BreakdownRecord`], as means over its steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideRecord {
    /// Number of pairs of an anchor and a class.
    pub pairs: f64,
    /// Class loss of these pairs, divided by the normalizer.
    pub loss: f64,
    /// Sum of the magnitudes of the loss's derivatives with respect to the logits of these pairs, divided by the
    /// normalizer.
    pub gradient: f64,
    /// Mean of `p_t`, the probability that the network gives to the truth, from 0 to 1; 0 if there are no pairs.
    pub mean_p_t: f64,
}

/// One pyramid level of a [`BreakdownRecord`], as means over its steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelRecord {
    /// Number of the level: 3 for P3 to 7 for P7.
    pub level: usize,
    /// Number of positive pairs, which equals the number of positive anchors.
    pub positives: f64,
    /// Number of negative pairs of an anchor and a class; ignored anchors have no pairs.
    pub negatives: f64,
    /// Number of ignored anchors, which take no part in the loss.
    pub ignored: f64,
    /// Class loss of the positive pairs, divided by the normalizer.
    pub positive_loss: f64,
    /// Class loss of the negative pairs, divided by the normalizer.
    pub negative_loss: f64,
}

impl ClassRecord {
    /// Whether the numbers were left out.
    pub fn is_empty(&self) -> bool {
        self.positives.is_empty()
    }
}

/// Numbers of a [`BreakdownRecord`] by class channel, as means over its steps and rounded to five significant digits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassRecord {
    /// Number of positive anchors of each class channel: `[class channels]`.
    pub positives: Vec<f64>,
    /// Class loss of the positive pairs of each class channel, divided by the normalizer: `[class channels]`.
    pub positive_loss: Vec<f64>,
    /// Class loss of the negative pairs of each class channel, divided by the normalizer: `[class channels]`.
    pub negative_loss: Vec<f64>,
}

/// One bin of the histogram of the negative pairs by their loss. Pairs are sorted into bins by the loss before division
/// by the normalizer; the counts and losses are means over the steps of the line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinRecord {
    /// Lower bound of the loss of a pair in this bin; 0 for the first bin. Bounds are powers of two and 1.5 times
    /// powers of two, so the upper bound is 4/3 or 3/2 of the lower bound.
    pub from: f64,
    /// Number of negative pairs in this bin.
    pub count: f64,
    /// Class loss of the pairs in this bin, divided by the normalizer.
    pub loss: f64,
}
