//! The breakdown as a log has it.

use serde::{Deserialize, Serialize};

/// The breakdown in a log: means over the steps of the line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakdownRecord {
    /// The positives' share of the class loss.
    pub positive_share: f64,
    /// Their share of the gradient's magnitude.
    pub positive_gradient_share: f64,
    /// The part of the negatives that carries half of their loss: see [`LossBreakdown::half`](super::LossBreakdown::half).
    pub half_of_negative_loss: f64,
    /// Anchors that take no part.
    pub ignored: f64,
    /// Pairs of an anchor and its object's class.
    pub positive: SideRecord,
    /// All other pairs.
    pub negative: SideRecord,
    /// P3 to P7.
    pub levels: Vec<LevelRecord>,
    /// By class channel; each figure to five digits.
    pub classes: ClassRecord,
    /// The negatives by their loss; only in an epoch's line. Bins without any are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub negative_bins: Vec<BinRecord>,
}

/// Positives or negatives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideRecord {
    /// How many.
    pub pairs: f64,
    /// Their part of the class loss.
    pub loss: f64,
    /// The magnitudes of their logits' gradients, summed.
    pub gradient: f64,
    /// The mean probability that the network gives to the truth.
    pub mean_p_t: f64,
}

/// A pyramid level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelRecord {
    /// 3 to 7.
    pub level: usize,
    /// Positive pairs, as many as positive anchors.
    pub positives: f64,
    /// Negative pairs.
    pub negatives: f64,
    /// Ignored anchors.
    pub ignored: f64,
    /// Class loss of the positives.
    pub positive_loss: f64,
    /// Class loss of the negatives.
    pub negative_loss: f64,
}

/// Figures by class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassRecord {
    /// Positive anchors.
    pub positives: Vec<f64>,
    /// Their loss.
    pub positive_loss: Vec<f64>,
    /// Loss of the class's negatives.
    pub negative_loss: Vec<f64>,
}

/// Negatives of about the same loss, before division by the normalizer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinRecord {
    /// The least loss; the bin ends where the next begins, a third or a half above.
    pub from: f64,
    /// Pairs.
    pub count: f64,
    /// Their part of the class loss, after division.
    pub loss: f64,
}
