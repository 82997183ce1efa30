//! The positives of the quality focal loss (Li et al., arXiv 2006.04388, equation 2):
//! `|q - p|^beta * -((1 - q) ln(1 - p) + q ln p)`, where `p` is the score and `q` the IoU of the predicted box with the
//! object. For negatives `q` is 0; the kernel computes them as a focal loss without weights.

use burn::tensor::{Int, Tensor};
use foveal_boxes::BBox;
use foveal_kernels::{BREAKDOWN_LEVELS, BreakdownLayout, ClassLoss, PositivePlaces};

use crate::boxes::overlap_of_positives;
use crate::predicted::Predicted;
use crate::target_tensors::{PositiveTensors, QualityTensors};

/// Lower limit of `|q - p|`, which keeps the logarithm of the difference finite.
const MIN_DISTANCE: f64 = 1e-12;

/// The weighted loss of the positives. In the breakdown only losses and gradients are filled, because the kernel sums
/// the scores.
pub(crate) fn positives(
    predicted: &Predicted<'_>,
    positives: &PositiveTensors,
    layout: Option<BreakdownLayout>,
) -> ClassLoss {
    let [batch, anchors, classes] = predicted.logits.dims();
    let targets = positives.quality.as_ref().expect("the targets of a quality focal loss");
    let logits: Tensor<1> =
        predicted.logits.clone().reshape([batch * anchors, classes]).gather_nd(targets.pairs.clone());
    let quality = overlap_of_positives(&predicted.deltas.clone().without_autodiff(), positives);
    let (weight, beta) = (targets.weight.clone(), targets.beta.clone());

    let entropy =
        |x: &Tensor<1>| x.clone().clamp_min(0.0) + x.clone().abs().neg().exp().log1p() - x.clone() * quality.clone();
    let score = |x: &Tensor<1>| burn::tensor::activation::sigmoid(x.clone());
    let distance = (quality.clone() - score(&logits)).abs().clamp_min(MIN_DISTANCE);
    let factor = |power: Tensor<1>| (distance.clone().log() * power).exp();
    let each = factor(beta.clone()) * entropy(&logits) * weight.clone();
    let loss = each.clone().sum();
    let each = each.without_autodiff();
    let sums = Tensor::cat(vec![each.clone().sum(), each.clone().sum() * 0.0], 0);
    let breakdown = layout.map(|_| {
        let plain = logits.clone().without_autodiff();
        let (p, ce) = (score(&plain), entropy(&plain).without_autodiff());
        let power = |p: Tensor<1>| factor(p).without_autodiff();
        // Both terms of the derivative have the same sign.
        let toward = beta.clone() * power(beta.clone() - 1.0) * p.clone() * (p.neg() + 1.0) * ce;
        let slope = (toward + power(beta.clone() + 1.0)) * weight.clone();
        breakdown(&each, &slope.without_autodiff(), targets, classes)
    });
    ClassLoss { loss, sums, breakdown }
}

/// The flat form of a breakdown with the losses and slopes of the positives, `[positives]` each; all other values are
/// 0.
fn breakdown(loss: &Tensor<1>, slope: &Tensor<1>, targets: &QualityTensors, classes: usize) -> Tensor<1> {
    let device = loss.device();
    let [count] = loss.dims();
    let levels = targets.levels.clone().expect("the levels are copied to the device for a breakdown");
    // One row for each value of the breakdown, one column for each positive: 1 where it belongs to the row, otherwise
    // 0.
    let select = |rows: usize, of: Tensor<1, Int>| {
        let of = of.without_autodiff().reshape([1, count]).expand([rows, count]);
        let row = Tensor::<1, Int>::arange(0..rows as i64, &device).reshape([rows, 1]).expand([rows, count]);
        of.equal(row).float()
    };
    let sums = |rows: usize, of: &Tensor<1, Int>, values: &Tensor<1>| {
        (select(rows, of.clone()) * values.clone().reshape([1, count])).sum_dim(1).reshape([rows])
    };
    let at = PositivePlaces::new(classes);
    let zeros = |n: usize| Tensor::<1>::zeros([n], &device);
    let values = vec![
        sums(BREAKDOWN_LEVELS, &levels, loss),
        zeros(at.gradient.start - at.loss.end),
        sums(BREAKDOWN_LEVELS, &levels, slope),
        zeros(at.by_class.start - at.gradient.end),
        sums(classes, &targets.classes, loss),
        zeros(BreakdownLayout::values(classes) - at.by_class.end),
    ];
    Tensor::cat(values, 0)
}

/// IoU of two boxes in `f64`, so that the closed form is not limited by the precision of `f32`.
fn overlap(a: &BBox, b: &BBox) -> f64 {
    let shared =
        f64::from((a.x2.min(b.x2) - a.x1.max(b.x1)).max(0.0)) * f64::from((a.y2.min(b.y2) - a.y1.max(b.y1)).max(0.0));
    let area = |b: &BBox| f64::from(b.x2 - b.x1) * f64::from(b.y2 - b.y1);
    shared / (area(a) + area(b) - shared).max(f64::MIN_POSITIVE)
}

/// The loss of one positive in closed form, in `f64`.
pub(crate) fn positive_at(predicted: &BBox, object: &BBox, score: f64, beta: f64) -> f64 {
    let quality = overlap(predicted, object);
    (quality - score).abs().powf(beta) * -((1.0 - quality) * (-score).ln_1p() + quality * score.ln())
}
