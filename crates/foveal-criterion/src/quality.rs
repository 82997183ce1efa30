//! The positives of the quality focal loss (Li et al., arXiv 2006.04388, equation 2):
//! `|q - p|^beta * -((1 - q) ln(1 - p) + q ln p)`, where `p` is the score and `q` the IoU of the predicted box with the
//! object. For negatives `q` is 0; the kernel computes them as a focal loss without weights.

use burn::tensor::{Int, Tensor, TensorData};
use foveal_anchors::ImageTargets;
use foveal_boxes::BBox;
use foveal_kernels::{BREAKDOWN_LEVELS, BreakdownLayout, ClassLoss, PositivePlaces};

use crate::boxes::overlap_of_positives;
use crate::config::LossConfig;
use crate::predicted::{Predicted, int_tensor};

/// Lower limit of `|q - p|`, which keeps the logarithm of the difference finite.
const MIN_DISTANCE: f64 = 1e-12;

/// The weighted loss of the positives; `None` if there are none. In the breakdown only losses and gradients are filled,
/// because the kernel sums the scores.
pub(crate) fn positives(
    config: &LossConfig,
    predicted: &Predicted<'_>,
    targets: &[ImageTargets],
    weights: &[f64],
    layout: Option<BreakdownLayout>,
) -> Option<ClassLoss> {
    let [batch, anchors, classes] = predicted.logits.dims();
    let device = predicted.logits.device();
    let (mut pairs, mut weight, mut beta, mut places) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (image, targets) in targets.iter().enumerate() {
        for positive in &targets.positives {
            // The class channel. In a network with more channels than classes it differs from the object's class.
            let class = targets.classes[positive.anchor as usize] as usize;
            pairs.push(((image * anchors + positive.anchor as usize) * classes + class) as i32);
            let of_image = weights.get(image).or(weights.first()).copied().unwrap_or(1.0);
            weight.push((of_image * config.class_weight(class)) as f32);
            beta.push(config.gamma.of(class) as f32);
            places.push((positive.anchor as usize, class));
        }
    }
    let count = pairs.len();
    if count == 0 {
        return None;
    }
    let row = |values: Vec<f32>| Tensor::<1>::from_data(TensorData::new(values, [count]), &device);
    let pairs: Tensor<1, Int> = int_tensor(&pairs, &device);
    let logits = predicted.logits.clone().reshape([batch * anchors * classes]).select(0, pairs);
    let quality = overlap_of_positives(&predicted.deltas.clone().without_autodiff(), targets)?;
    let quality = Tensor::<1>::from_data(quality.into_data(), &device);
    let (weight, beta) = (row(weight), row(beta));

    let entropy =
        |x: &Tensor<1>| x.clone().clamp_min(0.0) + x.clone().abs().neg().exp().log1p() - x.clone() * quality.clone();
    let score = |x: &Tensor<1>| burn::tensor::activation::sigmoid(x.clone());
    let distance = (quality.clone() - score(&logits)).abs().clamp_min(MIN_DISTANCE);
    let factor = |power: Tensor<1>| (distance.clone().log() * power).exp();
    let each = factor(beta.clone()) * entropy(&logits) * weight.clone();
    let loss = each.clone().sum();
    let each = each.without_autodiff();
    let sums = Tensor::cat(vec![each.clone().sum(), each.clone().sum() * 0.0], 0);
    let breakdown = layout.map(|layout| {
        let plain = logits.clone().without_autodiff();
        let (p, ce) = (score(&plain), entropy(&plain).without_autodiff());
        let power = |p: Tensor<1>| factor(p).without_autodiff();
        // Both terms of the derivative have the same sign.
        let toward = beta.clone() * power(beta.clone() - 1.0) * p.clone() * (p.neg() + 1.0) * ce;
        let slope = (toward + power(beta.clone() + 1.0)) * weight.clone();
        breakdown(&each, &slope.without_autodiff(), &places, layout, classes)
    });
    Some(ClassLoss { loss, sums, breakdown })
}

/// The flat form of a breakdown with the losses and slopes of the positives, `[positives]` each; all other values are
/// 0. `places` has the anchor and the class channel of each positive.
fn breakdown(
    loss: &Tensor<1>,
    slope: &Tensor<1>,
    places: &[(usize, usize)],
    layout: BreakdownLayout,
    classes: usize,
) -> Tensor<1> {
    let device = loss.device();
    let count = places.len();
    let level = |anchor: usize| {
        let ends = layout.level_anchors.iter().scan(0, |end, n| {
            *end += n;
            Some(*end)
        });
        ends.take_while(|end| *end <= anchor).count()
    };
    // One row for each value of the breakdown, one column for each positive.
    let select = |rows: usize, place: &dyn Fn(usize) -> usize| {
        let mut ones = vec![0f32; rows * count];
        (0..count).for_each(|i| ones[place(i) * count + i] = 1.0);
        Tensor::<2>::from_data(TensorData::new(ones, [rows, count]), &device)
    };
    let by_level = |values: &Tensor<1>| {
        let rows = select(BREAKDOWN_LEVELS, &|i| level(places[i].0));
        (rows * values.clone().reshape([1, count])).sum_dim(1).reshape([BREAKDOWN_LEVELS])
    };
    let by_class = (select(classes, &|i| places[i].1) * loss.clone().reshape([1, count])).sum_dim(1).reshape([classes]);
    let at = PositivePlaces::new(classes);
    let zeros = |n: usize| Tensor::<1>::zeros([n], &device);
    let values = vec![
        by_level(loss),
        zeros(at.gradient.start - at.loss.end),
        by_level(slope),
        zeros(at.by_class.start - at.gradient.end),
        by_class,
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
