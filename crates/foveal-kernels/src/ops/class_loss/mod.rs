//! The classification losses of dense detectors, on logits, in one pass with their gradient.
mod breakdown;
mod element;
mod kernel;
mod node;
mod reference;
mod run;
mod tally;

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

use crate::cpu::route;
pub use breakdown::{
    BREAKDOWN_BINS, BREAKDOWN_LEVELS, BreakdownLayout, BreakdownSums, LossBin, PairSums, PositivePlaces,
    breakdown_bin_start,
};
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
    /// `CE`, unweighted (Lin et al., arXiv 1708.02002, eq. 1); alpha and gamma are not read.
    CrossEntropy,
    /// `alpha_t * CE` (Lin et al., arXiv 1708.02002, eq. 3); gamma is not read.
    BalancedCrossEntropy,
    /// `p^gamma * CE` of the negatives alone; the positives have no loss and no gradient; alpha is not read. For losses
    /// that treat the few positives by themselves.
    FocalNegatives,
}

/// The family of a class loss and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassLossParams {
    /// The family of the loss.
    pub kind: ClassLossKind,
    /// Weight of positives; negatives weigh `1 - alpha`. A negative number means no weights.
    pub alpha: f32,
    /// Exponent of the focal factor, at least 0.
    pub gamma: f32,
}

/// Constants of a class loss that differ between classes; an empty list stands for no difference.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassTerms {
    /// The value of each class, used in place of [`ClassLossParams::alpha`].
    pub alpha: Vec<f32>,
    /// The value of each class, used in place of [`ClassLossParams::gamma`].
    pub gamma: Vec<f32>,
    /// Factor of all pairs of an anchor that shows the class; anchors that show nothing have 1.
    pub weight: Vec<f32>,
}

/// A class loss and its parts.
#[derive(Clone, Debug)]
pub struct ClassLoss {
    /// Sum over all anchors that are not ignored and all classes, `[1]`; differentiable.
    pub loss: Tensor<1>,
    /// `[positive loss, negative loss]`, which add up to `loss`; carries no gradient.
    pub sums: Tensor<1>,
    /// The flat form of [`BreakdownSums`], where it was asked for; carries no gradient.
    pub breakdown: Option<Tensor<1>>,
}

/// Weights of positives and negatives, and the focal exponent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weighting {
    positive: f32,
    negative: f32,
    gamma: f32,
}

impl Weighting {
    fn new(p: ClassLossParams) -> Self {
        let focal = matches!(p.kind, ClassLossKind::Focal | ClassLossKind::FocalNegatives);
        let gamma = if focal { p.gamma } else { 0.0 };
        assert!(gamma >= 0.0 && gamma.is_finite(), "class loss: gamma must be at least 0, is {gamma}");
        if p.kind == ClassLossKind::FocalNegatives {
            return Self { positive: 0.0, negative: 1.0, gamma };
        }
        if p.kind == ClassLossKind::CrossEntropy || p.alpha < 0.0 {
            return Self { positive: 1.0, negative: 1.0, gamma };
        }
        assert!(p.alpha <= 1.0, "class loss: alpha must be at most 1, is {}", p.alpha);
        Self { positive: p.alpha, negative: 1.0 - p.alpha, gamma }
    }

    /// Sign of the logit and weight of one kind.
    #[inline(always)]
    fn side(&self, positive: bool) -> (f32, f32) {
        if positive { (1.0, self.positive) } else { (-1.0, self.negative) }
    }

    fn times(self, factor: f32) -> Self {
        Self { positive: factor * self.positive, negative: factor * self.negative, ..self }
    }
}

/// The constants of the classes: one for all, or one for each.
#[derive(Clone, Debug)]
enum Columns {
    Same(Weighting),
    Each(Arc<[Weighting]>),
}

/// What a pass over the logits computes.
#[derive(Clone, Debug)]
pub struct Plan {
    columns: Columns,
    /// Factors of anchors by the class that they show.
    rows: Option<Arc<[f32]>>,
    breakdown: Option<BreakdownLayout>,
}

impl Plan {
    fn new(p: ClassLossParams, terms: &ClassTerms, breakdown: Option<BreakdownLayout>, classes: usize) -> Self {
        for (name, list) in [("alpha", &terms.alpha), ("gamma", &terms.gamma), ("weight", &terms.weight)] {
            let fits = list.is_empty() || list.len() == classes;
            assert!(fits, "class loss: {name} of {} classes, but there are {classes}", list.len());
        }
        let columns = if terms.alpha.is_empty() && terms.gamma.is_empty() {
            Columns::Same(Weighting::new(p))
        } else {
            let of = |class: usize| {
                let alpha = terms.alpha.get(class).copied().unwrap_or(p.alpha);
                Weighting::new(ClassLossParams {
                    alpha,
                    gamma: terms.gamma.get(class).copied().unwrap_or(p.gamma),
                    ..p
                })
            };
            Columns::Each((0..classes).map(of).collect())
        };
        let rows = (!terms.weight.is_empty()).then(|| Arc::from(terms.weight.as_slice()));
        Self { columns, rows, breakdown }
    }

    /// Whether the loop that only sums the loss will do.
    fn is_fast(&self) -> bool {
        matches!(self.columns, Columns::Same(_)) && self.breakdown.is_none()
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
    class_loss_with(logits, classes, p, &ClassTerms::default(), None)
}

/// The summed class loss of independent sigmoids with constants that may differ between classes, and with a breakdown
/// of the sum where a layout is given.
///
/// # Shapes
/// `logits [anchors, classes]`; `classes [anchors]`, each a class, [`BACKGROUND`] or [`IGNORE`]. With a breakdown the
/// anchors are those of whole images, one image after the other.
///
/// # Panics
/// If the numbers of anchors differ, a gamma is negative, an alpha is above 1, a list of `terms` has another length than
/// there are classes, or the rows are not whole images of the breakdown's layout.
pub fn class_loss_with(
    logits: Tensor<2>,
    classes: Tensor<1, Int>,
    p: ClassLossParams,
    terms: &ClassTerms,
    breakdown: Option<BreakdownLayout>,
) -> ClassLoss {
    let [anchors, width] = logits.dims();
    assert_eq!(anchors, classes.dims()[0], "class loss: logits and classes of as many anchors");
    if let Some(layout) = breakdown {
        let image = layout.anchors();
        assert!(image > 0 && anchors.is_multiple_of(image), "class loss: {anchors} rows are no images of {image}");
    }
    let (loss, sums) = <Dispatch as ClassLossOps>::class_loss(
        logits.into_dispatch(),
        classes.into_dispatch(),
        Plan::new(p, terms, breakdown, width),
        route::reference(),
    );
    let (loss, sums) = (Tensor::from_dispatch(loss), Tensor::<1>::from_dispatch(sums));
    match breakdown {
        None => ClassLoss { loss, sums, breakdown: None },
        Some(_) => {
            let values = BreakdownLayout::values(width);
            let parts = [sums.clone().narrow(0, 0, 2), sums.narrow(0, 2, values)];
            let [sums, breakdown] = parts;
            ClassLoss { loss, sums, breakdown: Some(breakdown) }
        }
    }
}
