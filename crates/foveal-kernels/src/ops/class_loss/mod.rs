//! Classification losses of dense detectors (focal loss and cross entropy) on logits, computed in one pass with their
//! gradients.
mod breakdown;
mod element;
#[cfg(feature = "wgpu")]
mod gpu;
mod hardest;
mod images;
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
pub use hardest::{keep_hardest, keep_hardest_on_device};
use images::ImageLossOps;
use node::ClassLossOps;

/// Class of an anchor without an object: all its logits are negatives.
pub const BACKGROUND: i32 = -1;
/// Class of an ignored anchor, which does not contribute to the loss.
pub const IGNORE: i32 = -2;

/// Formula of a class loss. `p_t` is the probability that the network assigns to the truth, `CE = -ln(p_t)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassLossKind {
    /// Focal loss, `alpha_t * (1 - p_t)^gamma * CE` (Lin et al., arXiv 1708.02002, eq. 5).
    Focal,
    /// Cross entropy, `CE` (Lin et al., arXiv 1708.02002, eq. 1). Alpha and gamma are ignored.
    CrossEntropy,
    /// Balanced cross entropy, `alpha_t * CE` (Lin et al., arXiv 1708.02002, eq. 3). Gamma is ignored.
    BalancedCrossEntropy,
    /// Focal loss of the negatives only, `p^gamma * CE`; positives have no loss and no gradient. Alpha is ignored. For
    /// losses that compute the few positives separately.
    FocalNegatives,
}

/// Formula of a class loss and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassLossParams {
    /// Formula of the loss, such as focal loss or cross entropy.
    pub kind: ClassLossKind,
    /// Weight of the positives, at most 1; negatives have the weight `1 - alpha`. A negative number gives all pairs the
    /// weight 1.
    pub alpha: f32,
    /// Exponent of the focal factor `(1 - p_t)^gamma`, at least 0.
    pub gamma: f32,
}

/// Constants of a class loss that differ between classes. An empty list means that all classes have the same value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassTerms {
    /// Weight of the positives of each class, instead of [`ClassLossParams::alpha`]; empty or `[classes]`.
    pub alpha: Vec<f32>,
    /// Focal exponent of each class, instead of [`ClassLossParams::gamma`]; empty or `[classes]`.
    pub gamma: Vec<f32>,
    /// Factor for all logits of an anchor whose object has the class; empty or `[classes]`. Background anchors have the
    /// factor 1.
    pub weight: Vec<f32>,
}

/// Result of [`class_loss`] and [`class_loss_with`]: the loss, its two parts and, if requested, its breakdown.
#[derive(Clone, Debug)]
pub struct ClassLoss {
    /// Sum of the loss over all classes and all anchors that are not ignored, `[1]`. Differentiable.
    pub loss: Tensor<1>,
    /// Loss of the positives and loss of the negatives, `[2]`, which add up to `loss`. Carries no gradient.
    pub sums: Tensor<1>,
    /// Breakdown of the loss as a flat tensor (see [`BreakdownSums::read`]), if a layout was given. Carries no
    /// gradient.
    pub breakdown: Option<Tensor<1>>,
}

impl ClassLoss {
    /// Divides `sums`, the loss of positives and of negatives, from a breakdown of `classes` classes, if one follows
    /// them.
    fn from_sums(loss: Tensor<1>, sums: Tensor<1>, classes: Option<usize>) -> Self {
        match classes {
            None => Self { loss, sums, breakdown: None },
            Some(classes) => {
                let values = BreakdownLayout::values(classes);
                let parts = [sums.clone().narrow(0, 0, 2), sums.narrow(0, 2, values)];
                let [sums, breakdown] = parts;
                Self { loss, sums, breakdown: Some(breakdown) }
            }
        }
    }
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
        assert!(gamma >= 0.0 && gamma.is_finite(), "class loss: gamma must be finite and at least 0, is {gamma}");
        if p.kind == ClassLossKind::FocalNegatives {
            return Self { positive: 0.0, negative: 1.0, gamma };
        }
        if p.kind == ClassLossKind::CrossEntropy || p.alpha < 0.0 {
            return Self { positive: 1.0, negative: 1.0, gamma };
        }
        assert!(p.alpha <= 1.0, "class loss: alpha must be at most 1, is {}", p.alpha);
        Self { positive: p.alpha, negative: 1.0 - p.alpha, gamma }
    }

    /// The sign of the logit and the weight, for positives or negatives.
    #[inline(always)]
    fn side(&self, positive: bool) -> (f32, f32) {
        if positive { (1.0, self.positive) } else { (-1.0, self.negative) }
    }

    fn times(self, factor: f32) -> Self {
        Self { positive: factor * self.positive, negative: factor * self.negative, ..self }
    }
}

/// The constants of the classes: the same for all, or one set for each class.
#[derive(Clone, Debug)]
enum Columns {
    Same(Weighting),
    Each(Arc<[Weighting]>),
}

/// Constants of a class loss in the form that the kernels use, and the layout of the breakdown, if a breakdown
/// is requested.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    columns: Columns,
    /// Factors of the anchors by the class of their object.
    rows: Option<Arc<[f32]>>,
    breakdown: Option<BreakdownLayout>,
}

impl Plan {
    fn new(p: ClassLossParams, terms: &ClassTerms, breakdown: Option<BreakdownLayout>, classes: usize) -> Self {
        for (name, list) in [("alpha", &terms.alpha), ("gamma", &terms.gamma), ("weight", &terms.weight)] {
            let fits = list.is_empty() || list.len() == classes;
            assert!(fits, "class loss: {name} has {} values, but there are {classes} classes", list.len());
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

    /// Whether the loop that only sums the loss is sufficient.
    fn is_fast(&self) -> bool {
        matches!(self.columns, Columns::Same(_)) && self.breakdown.is_none()
    }
}

/// Computes the class loss of independent sigmoids (Lin et al., arXiv 1708.02002, section 3), summed over all anchors
/// and classes. The logit of an anchor's class is a positive, all its other logits are negatives. Loss and gradient are
/// finite for all finite logits. The logits receive a gradient.
///
/// # Shapes
/// `logits [anchors, classes]`; `classes [anchors]`, each a class, [`BACKGROUND`] or [`IGNORE`].
///
/// # Panics
/// If `logits` and `classes` differ in the number of anchors, gamma is negative or not finite, or alpha is above 1.
pub fn class_loss(logits: Tensor<2>, classes: Tensor<1, Int>, p: ClassLossParams) -> ClassLoss {
    class_loss_with(logits, classes, p, &ClassTerms::default(), None)
}

/// Computes the class loss of independent sigmoids (Lin et al., arXiv 1708.02002, section 3), summed over all anchors
/// and classes, with constants that may differ between classes, and a breakdown of the sum if a layout is given. The
/// logit of an anchor's class is a positive, all its other logits are negatives. The logits receive a gradient.
///
/// # Shapes
/// `logits [anchors, classes]`; `classes [anchors]`, each a class, [`BACKGROUND`] or [`IGNORE`]. With a breakdown the
/// anchors are those of whole images, one image after the other.
///
/// # Panics
/// If `logits` and `classes` differ in the number of anchors, a gamma is negative or not finite, an alpha is above 1, a
/// list in `terms` is neither empty nor of the length `classes`, or the number of anchors is not a multiple of that in
/// the breakdown's layout.
pub fn class_loss_with(
    logits: Tensor<2>,
    classes: Tensor<1, Int>,
    p: ClassLossParams,
    terms: &ClassTerms,
    breakdown: Option<BreakdownLayout>,
) -> ClassLoss {
    let [anchors, width] = logits.dims();
    check_rows(anchors, 1, &classes, breakdown);
    let (loss, sums) = <Dispatch as ClassLossOps>::class_loss(
        logits.into_dispatch(),
        classes.into_dispatch(),
        Plan::new(p, terms, breakdown, width),
        route::reference(),
    );
    ClassLoss::from_sums(Tensor::from_dispatch(loss), Tensor::from_dispatch(sums), breakdown.map(|_| width))
}

/// Computes the class loss of each of several images, as [`class_loss_with`] does for one. The logits receive the
/// gradients of all losses in one tensor.
///
/// # Shapes
/// `logits [images * anchors, classes]`; `classes [images * anchors]`, each a class, [`BACKGROUND`] or [`IGNORE`].
///
/// # Panics
/// As [`class_loss_with`], and if the number of rows is not a multiple of `images`.
pub fn class_losses_of_images(
    logits: Tensor<2>,
    classes: Tensor<1, Int>,
    images: usize,
    p: ClassLossParams,
    terms: &ClassTerms,
    breakdown: Option<BreakdownLayout>,
) -> Vec<ClassLoss> {
    let [rows, width] = logits.dims();
    assert!(images > 0 && rows.is_multiple_of(images), "class loss: {rows} rows are not those of {images} images");
    let anchors = rows / images;
    if images == 1 {
        return vec![class_loss_with(logits, classes, p, terms, breakdown)];
    }
    if !route::fused_kernel(&logits) {
        let of = |i: usize| {
            let own = (logits.clone().narrow(0, i * anchors, anchors), classes.clone().narrow(0, i * anchors, anchors));
            class_loss_with(own.0, own.1, p, terms, breakdown)
        };
        return (0..images).map(of).collect();
    }
    check_rows(rows, images, &classes, breakdown);
    let plan = Plan::new(p, terms, breakdown, width);
    let (losses, sums) =
        <Dispatch as ImageLossOps>::class_losses(logits.into_dispatch(), classes.into_dispatch(), images, plan);
    let (losses, sums) = (Tensor::<1>::from_dispatch(losses), Tensor::<1>::from_dispatch(sums));
    let values = sums.dims()[0] / images;
    let of = |i| {
        let own = (losses.clone().narrow(0, i, 1), sums.clone().narrow(0, i * values, values));
        ClassLoss::from_sums(own.0, own.1, breakdown.map(|_| width))
    };
    (0..images).map(of).collect()
}

/// Compares the number of rows of logits with the number of classes, and that of each of `images` parts with the layout
/// of a breakdown.
fn check_rows(rows: usize, images: usize, classes: &Tensor<1, Int>, breakdown: Option<BreakdownLayout>) {
    assert_eq!(rows, classes.dims()[0], "class loss: logits and classes must have as many anchors");
    if let Some(layout) = breakdown {
        let image = layout.anchors();
        let own = rows / images;
        assert!(image > 0 && own.is_multiple_of(image), "class loss: {own} rows are not whole images of {image}");
    }
}
