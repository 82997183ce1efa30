//! `[loss]`.

use foveal_kernels::{ClassLossKind, ClassLossParams};
use serde::{Deserialize, Serialize};

/// The loss over anchors and classes (`loss.kind`; arXiv 1708.02002, section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassLossChoice {
    /// -alpha_t (1 - p_t)^gamma ln p_t.
    #[default]
    Focal,
    /// -ln p_t.
    CrossEntropy,
    /// -alpha_t ln p_t.
    BalancedCrossEntropy,
}

/// The loss over positive anchors (`loss.box`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxLossKind {
    /// Quadratic below `beta`, linear above, on deltas: Detectron2's.
    SmoothL1,
    /// Absolute difference of deltas: torchvision's v1.
    #[default]
    L1,
    /// 1 - GIoU of the decoded boxes (arXiv 1902.09630): torchvision's v2.
    Giou,
}

/// What the sums are divided by (`loss.normalizer`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormalizerKind {
    /// Positive anchors of the whole batch, at least 1: the paper (section 4.1).
    #[default]
    Batch,
    /// Each image by its own positive anchors, then the mean over images: torchvision.
    PerImage,
}

/// Both losses and what they are divided by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// Class loss.
    pub kind: ClassLossChoice,
    /// Weight of positives; negatives have 1 - alpha.
    pub alpha: f64,
    /// Exponent that turns easy anchors down; focal loss only.
    pub gamma: f64,
    /// Box loss.
    #[serde(rename = "box")]
    pub box_kind: BoxLossKind,
    /// Where smooth L1 turns linear.
    pub beta: f64,
    /// Factor of the box loss in the total.
    pub box_weight: f64,
    /// The divisor.
    pub normalizer: NormalizerKind,
}

/// Smooth L1's beta of the paper's code (Detectron: 1/9; kept by Detectron2's RetinaNet as 0.1).
const SMOOTH_L1_BETA: f64 = 0.1;

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            kind: ClassLossChoice::Focal,
            alpha: 0.25,
            gamma: 2.0,
            box_kind: BoxLossKind::L1,
            beta: SMOOTH_L1_BETA,
            box_weight: 1.0,
            normalizer: NormalizerKind::Batch,
        }
    }
}

impl LossConfig {
    /// The class loss as the kernel takes it.
    pub fn class_params(&self) -> ClassLossParams {
        let kind = match self.kind {
            ClassLossChoice::Focal => ClassLossKind::Focal,
            ClassLossChoice::CrossEntropy => ClassLossKind::CrossEntropy,
            ClassLossChoice::BalancedCrossEntropy => ClassLossKind::BalancedCrossEntropy,
        };
        ClassLossParams { kind, alpha: self.alpha as f32, gamma: self.gamma as f32 }
    }
}
