//! The available class losses and the components of each.
//!
//! [`ClassLossKind::form`] is the only place that states which constants a loss uses. The call of the kernel, the
//! closed form ([`LossConfig::pair_loss`](crate::LossConfig::pair_loss)) and the check of a run's first loss follow it.
//! To add a class loss, change three files:
//!
//! 1. this file: add a variant of [`ClassLossKind`] and its arm in `form`;
//! 2. a new file such as `quality.rs`, with the part that the kernel does not compute, on tensors and in closed form;
//! 3. `class.rs`, which calls the new file for the positives, once for tensors and once for the closed form.
//!
//! If the loss of every pair is `weight * (1 - p_t)^gamma * -ln(p_t)`, only the first step is needed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use foveal_kernels::ClassLossKind as KernelLoss;

/// The class loss (`loss.kind`): a sum over all pairs of an anchor and a class, without ignored anchors (arXiv
/// 1708.02002, section 3). `p_t` is the probability that the network gives to the truth: the score `p` of a positive
/// pair, `1 - p` of a negative pair. `alpha_t` is `alpha` for a positive pair and `1 - alpha` for a negative pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassLossKind {
    /// Focal loss: `-alpha_t (1 - p_t)^gamma ln(p_t)` (arXiv 1708.02002, equation 5). This is the default.
    #[default]
    Focal,
    /// Cross entropy: `-ln(p_t)` (arXiv 1708.02002, equation 1).
    CrossEntropy,
    /// Balanced cross entropy: `-alpha_t ln(p_t)` (arXiv 1708.02002, equation 3).
    BalancedCrossEntropy,
    /// Online hard example mining (OHEM, arXiv 1604.03540): cross entropy, `-ln(p_t)`, over the positive anchors and
    /// the background anchors with the highest loss, `ohem_ratio` for each positive anchor of an image, as in SSD
    /// (arXiv 1512.02325, section 2.2).
    Ohem,
    /// Quality focal loss (arXiv 2006.04388, equation 2): `|q - p|^gamma` times the cross entropy of the score `p` with
    /// the target `q`. For positives `q` is the IoU of the predicted box with the object, for negatives it is 0. The
    /// paper's `beta` is `gamma` here.
    QualityFocal,
}

/// The components of a class loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// The loss that the kernel computes.
    pub kernel: KernelLoss,
    /// Whether positives have the weight `alpha` and negatives `1 - alpha`; otherwise both have the weight 1.
    pub has_alpha: bool,
    /// Whether the loss uses `gamma`; otherwise the exponent is 0.
    pub has_gamma: bool,
    /// The anchors that take part in the loss.
    pub anchors: Participants,
    /// The code that computes the loss of the positives.
    pub positives: Positives,
}

/// The anchors that take part in a class loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Participants {
    /// All anchors that are not ignored.
    All,
    /// The positive anchors, and the background anchors with the highest loss (`mining.rs`).
    Hardest,
}

/// The code that computes the loss of the positive pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positives {
    /// The kernel computes them together with the negatives.
    Kernel,
    /// `quality.rs` computes them (quality focal loss).
    Quality,
}

impl ClassLossKind {
    /// The components of this loss.
    pub(crate) const fn form(self) -> Form {
        let plain = Form {
            kernel: KernelLoss::CrossEntropy,
            has_alpha: false,
            has_gamma: false,
            anchors: Participants::All,
            positives: Positives::Kernel,
        };
        match self {
            Self::Focal => Form { kernel: KernelLoss::Focal, has_alpha: true, has_gamma: true, ..plain },
            Self::CrossEntropy => plain,
            Self::BalancedCrossEntropy => Form { kernel: KernelLoss::BalancedCrossEntropy, has_alpha: true, ..plain },
            Self::Ohem => Form { anchors: Participants::Hardest, ..plain },
            Self::QualityFocal => {
                Form { kernel: KernelLoss::FocalNegatives, has_gamma: true, positives: Positives::Quality, ..plain }
            }
        }
    }
}
