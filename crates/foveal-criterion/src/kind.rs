//! The class losses there are, and what each is made of.
//!
//! [`ClassLossKind::form`] is the one place that says which constants a loss reads; the call of the kernel, the closed
//! forms ([`LossConfig::pair_loss`](crate::LossConfig::pair_loss)) and the check of a run's first loss all follow it. A
//! new class loss touches three files:
//!
//! 1. this one: a variant of [`ClassLossKind`] and its row in `form`;
//! 2. a file of its own for what the kernel does not compute, with its tensors and its closed form, as `quality.rs`;
//! 3. `class.rs`, which calls that file for the positives, once for tensors and once for the closed form.
//!
//! A loss whose pairs all cost `weight * (1 - p_t)^gamma * -ln(p_t)` needs the first alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use foveal_kernels::ClassLossKind as KernelLoss;

/// The loss over anchors and classes (`loss.kind`; arXiv 1708.02002, section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassLossKind {
    /// -alpha_t (1 - p_t)^gamma ln p_t.
    #[default]
    Focal,
    /// -ln p_t.
    CrossEntropy,
    /// -alpha_t ln p_t.
    BalancedCrossEntropy,
    /// -ln p_t over the positives and, for each of an image's positives, the `ohem_ratio` background anchors that cost
    /// most (OHEM, arXiv 1604.03540, as SSD has it and section 5.1 compares with).
    Ohem,
    /// |q - p|^gamma times the cross entropy with q, the overlap of the predicted box with the object, in place of 1
    /// (quality focal loss, arXiv 2006.04388, equation 2; its beta is `gamma`).
    QualityFocal,
}

/// What a class loss is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// What the kernel computes.
    pub kernel: KernelLoss,
    /// Whether positives weigh `alpha` and negatives `1 - alpha`; else both weigh 1.
    pub has_alpha: bool,
    /// Whether `gamma` is read; else it is 0.
    pub has_gamma: bool,
    /// Which anchors take part.
    pub anchors: Participants,
    /// Who computes the positives.
    pub positives: Positives,
}

/// The anchors that take part in a class loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Participants {
    /// All that are not ignored.
    All,
    /// The positives, and the background anchors that cost most (`mining.rs`).
    Hardest,
}

/// Where the loss of positive pairs comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positives {
    /// The kernel, together with the negatives.
    Kernel,
    /// The quality focal loss (`quality.rs`).
    Quality,
}

impl ClassLossKind {
    /// What the loss is made of.
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
