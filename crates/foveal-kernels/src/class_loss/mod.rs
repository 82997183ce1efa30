//! The classification losses of dense detectors, on logits, in one pass with their gradient.
mod element;
mod kernel;
mod node;
mod plain;

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

use crate::route::plain;
use node::ClassLossOps;

/// The class of an anchor that shows no object: all its logits are negatives.
pub const BACKGROUND: i32 = -1;
/// The class of an anchor that takes no part in the loss.
pub const IGNORE: i32 = -2;

/// The family of a class loss. With `p_t` the probability given to the truth, `CE = -ln(p_t)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassLossKind {
    /// `alpha_t * (1 - p_t)^gamma * CE` (Lin et al., arXiv 1708.02002, eq. 5).
    Focal,
    /// `CE`, unweighted (eq. 1); alpha and gamma are not read.
    CrossEntropy,
    /// `alpha_t * CE` (eq. 3); gamma is not read.
    BalancedCrossEntropy,
}

/// Which loss, and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassLossParams {
    /// The family.
    pub kind: ClassLossKind,
    /// Weight of positives; negatives weigh `1 - alpha`. A negative number means no weights.
    pub alpha: f32,
    /// Exponent of the focal factor, at least 0.
    pub gamma: f32,
}

/// A class loss and its parts.
#[derive(Clone, Debug)]
pub struct ClassLoss {
    /// Sum over all anchors that are not ignored and all classes, `[1]`; differentiable.
    pub loss: Tensor<1>,
    /// `[positive loss, negative loss]`, which add up to `loss`; carries no gradient.
    pub sums: Tensor<1>,
}

/// What is computed: weights of positives and negatives, and the focal exponent.
#[derive(Clone, Copy, Debug)]
pub struct Weighting {
    positive: f32,
    negative: f32,
    gamma: f32,
}

impl Weighting {
    fn new(p: ClassLossParams) -> Self {
        let gamma = if p.kind == ClassLossKind::Focal { p.gamma } else { 0.0 };
        assert!(gamma >= 0.0 && gamma.is_finite(), "class loss: gamma must be at least 0, is {gamma}");
        if p.kind == ClassLossKind::CrossEntropy || p.alpha < 0.0 {
            return Self { positive: 1.0, negative: 1.0, gamma };
        }
        assert!(p.alpha <= 1.0, "class loss: alpha must be at most 1, is {}", p.alpha);
        Self { positive: p.alpha, negative: 1.0 - p.alpha, gamma }
    }
}

/// The summed class loss of independent sigmoids. Every anchor's class is a positive, all its other logits are
/// negatives; loss and gradient are finite for all finite logits.
///
/// # Shapes
/// `logits [anchors, classes]`; `classes [anchors]`, each a class, [`BACKGROUND`] or [`IGNORE`].
///
/// # Panics
/// If the numbers of anchors differ, gamma is negative or alpha above 1.
pub fn class_loss(logits: Tensor<2>, classes: Tensor<1, Int>, p: ClassLossParams) -> ClassLoss {
    assert_eq!(logits.dims()[0], classes.dims()[0], "class loss: logits and classes of as many anchors");
    let (loss, sums) = <Dispatch as ClassLossOps>::class_loss(
        logits.into_dispatch(),
        classes.into_dispatch(),
        Weighting::new(p),
        plain(),
    );
    ClassLoss { loss: Tensor::from_dispatch(loss), sums: Tensor::from_dispatch(sums) }
}
