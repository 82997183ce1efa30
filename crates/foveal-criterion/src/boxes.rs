//! The box loss over positive anchors.

use burn::tensor::{Int, Tensor, TensorData};
use foveal_anchors::{ImageTargets, Positive};
use foveal_boxes::{BBox, MAX_LOG_RATIO};

use crate::config::BoxLossKind;

/// torchvision's `eps` in `generalized_box_iou_loss`.
const GIOU_EPS: f64 = 1e-7;

/// The weighted sum of the box loss over all positives; 0, attached to the graph, where there are none.
///
/// # Shapes
/// - deltas: `[batch, anchors, 4]`
/// - weights: one an image
pub(crate) fn weighted(
    deltas: Tensor<3>,
    targets: &[ImageTargets],
    weights: &[f64],
    kind: BoxLossKind,
    beta: f64,
) -> Tensor<1> {
    let [batch, anchors, _] = deltas.dims();
    let device = deltas.device();
    let positives: Vec<(usize, &Positive)> =
        targets.iter().enumerate().flat_map(|(i, t)| t.positives.iter().map(move |p| (i, p))).collect();
    if positives.is_empty() {
        return deltas.narrow(1, 0, 1).sum() * 0.0;
    }
    let count = positives.len();
    let rows: Vec<i32> = positives.iter().map(|(i, p)| (i * anchors) as i32 + p.anchor as i32).collect();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &device);
    let predicted = deltas.reshape([batch * anchors, 4]).select(0, rows);
    let column = |f: &dyn Fn(&Positive) -> [f32; 4]| -> Tensor<2> {
        let values: Vec<f32> = positives.iter().flat_map(|(_, p)| f(p)).collect();
        Tensor::from_data(TensorData::new(values, [count, 4]), &device)
    };
    let weight: Vec<f32> = positives.iter().map(|(i, _)| weights[*i] as f32).collect();
    let weight = Tensor::<2>::from_data(TensorData::new(weight, [count, 1]), &device);
    let corners = |b: BBox| [b.x1, b.y1, b.x2, b.y2];
    let each = match kind {
        BoxLossKind::L1 => (predicted - column(&|p| p.delta.to_array())).abs(),
        BoxLossKind::SmoothL1 => smooth_l1(predicted - column(&|p| p.delta.to_array()), beta),
        BoxLossKind::Giou => {
            let boxes = decode(predicted, column(&|p| corners(p.anchor_box)));
            giou_loss(boxes, column(&|p| corners(p.object)))
        }
    };
    (each * weight).sum()
}

/// The overlap (IoU) of each positive's predicted box with its object, `[positives]`, in the order of the images.
///
/// # Shapes
/// - deltas: `[batch, anchors, 4]`, without autodiff
pub(crate) fn overlap_of_positives(deltas: Tensor<3>, targets: &[ImageTargets]) -> Tensor<1> {
    let [batch, anchors, _] = deltas.dims();
    let device = deltas.device();
    let positives: Vec<(usize, &Positive)> =
        targets.iter().enumerate().flat_map(|(i, t)| t.positives.iter().map(move |p| (i, p))).collect();
    let count = positives.len();
    let rows: Vec<i32> = positives.iter().map(|(i, p)| (i * anchors) as i32 + p.anchor as i32).collect();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &device);
    let corners = |of: &dyn Fn(&Positive) -> BBox| -> Tensor<2> {
        let values: Vec<f32> = positives
            .iter()
            .flat_map(|(_, p)| {
                let b = of(p);
                [b.x1, b.y1, b.x2, b.y2]
            })
            .collect();
        Tensor::from_data(TensorData::new(values, [count, 4]), &device)
    };
    let predicted = decode(deltas.reshape([batch * anchors, 4]).select(0, rows), corners(&|p| p.anchor_box));
    let objects = corners(&|p| p.object);
    let low = |t: &Tensor<2>| t.clone().narrow(1, 0, 2);
    let high = |t: &Tensor<2>| t.clone().narrow(1, 2, 2);
    let product = |size: Tensor<2>| size.clone().narrow(1, 0, 1) * size.narrow(1, 1, 1);
    let shared = high(&predicted).min_pair(high(&objects)) - low(&predicted).max_pair(low(&objects));
    let shared = product(shared.clamp_min(0.0));
    let area = |t: &Tensor<2>| product(high(t) - low(t));
    let union = area(&predicted) + area(&objects) - shared.clone();
    (shared / (union + GIOU_EPS)).reshape([count])
}

/// 0.5 d² / beta below beta, |d| - 0.5 beta from there on (Girshick, arXiv 1504.08083, equation 3).
fn smooth_l1(difference: Tensor<2>, beta: f64) -> Tensor<2> {
    let d = difference.abs();
    let low = d.clone().clamp_max(beta);
    // low * (d - low / 2) / beta is both branches: below beta low = d, above it low = beta.
    low.clone() * (d - low * 0.5) / beta
}

/// Anchors moved by deltas; `[n, 4]` corners each. The log ratios are clamped as in inference.
fn decode(deltas: Tensor<2>, anchors: Tensor<2>) -> Tensor<2> {
    let size = anchors.clone().narrow(1, 2, 2) - anchors.clone().narrow(1, 0, 2);
    let center = anchors.narrow(1, 0, 2) + size.clone() * 0.5;
    let center = center + deltas.clone().narrow(1, 0, 2) * size.clone();
    let half = size * deltas.narrow(1, 2, 2).clamp_max(f64::from(MAX_LOG_RATIO)).exp() * 0.5;
    Tensor::cat(vec![center.clone() - half.clone(), center + half], 1)
}

/// 1 - GIoU of each pair (Rezatofighi et al., arXiv 1902.09630), `[n, 1]`.
fn giou_loss(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let low = |t: &Tensor<2>| t.clone().narrow(1, 0, 2);
    let high = |t: &Tensor<2>| t.clone().narrow(1, 2, 2);
    let product = |size: Tensor<2>| size.clone().narrow(1, 0, 1) * size.narrow(1, 1, 1);
    let overlap = high(&a).min_pair(high(&b)) - low(&a).max_pair(low(&b));
    let intersection = product(overlap.clamp_min(0.0));
    let union = product(high(&a) - low(&a)) + product(high(&b) - low(&b)) - intersection.clone();
    let hull = product(high(&a).max_pair(high(&b)) - low(&a).min_pair(low(&b)));
    let iou = intersection / (union.clone() + GIOU_EPS);
    let giou = iou - (hull.clone() - union) / (hull + GIOU_EPS);
    (giou - 1.0) * -1.0
}
