//! The box loss over positive anchors.

use burn::tensor::Tensor;
use foveal_boxes::MAX_LOG_RATIO;

use crate::config::BoxLossKind;
use crate::overlap::{complete_loss, distance_loss, generalized_loss, overlap};
use crate::target_tensors::PositiveTensors;

/// Value of `loss.beta` up to which smooth L1 is computed as L1. The two differ by at most half of it, which is less
/// than the rounding of any difference of deltas, and the division by a smaller number would not be finite. PyTorch too
/// computes L1 for a `beta` of 0.
const LEAST_BETA: f64 = 1e-20;

/// The predicted deltas of the positive anchors, `[positives, 4]`. `deltas` is `[batch, anchors, 4]`.
fn of_positives(deltas: &Tensor<3>, positives: &PositiveTensors) -> Tensor<2> {
    let [batch, anchors, _] = deltas.dims();
    deltas.clone().reshape([batch * anchors, 4]).gather_nd(positives.rows.clone())
}

/// The weighted sum of the box loss over all positive anchors, `[1]`. Without positives it is 0 and still part of the
/// autodiff graph. `deltas` is `[batch, anchors, 4]`.
pub(crate) fn weighted(
    deltas: Tensor<3>,
    positives: Option<&PositiveTensors>,
    kind: BoxLossKind,
    beta: f64,
) -> Tensor<1> {
    let Some(positives) = positives else {
        return deltas.narrow(1, 0, 1).sum() * 0.0;
    };
    let predicted = of_positives(&deltas, positives);
    let difference = || {
        let wanted = positives.deltas.clone().expect("deltas are copied to the device for losses of deltas");
        predicted.clone() - wanted
    };
    let of_boxes = |loss: fn(&Tensor<2>, &Tensor<2>) -> Tensor<2>| {
        let boxes = positives.boxes.as_ref().expect("boxes are copied to the device for losses of boxes");
        loss(&decode(predicted.clone(), boxes.anchors.clone()), &boxes.objects)
    };
    let each = match kind {
        BoxLossKind::SmoothL1 if beta > LEAST_BETA => smooth_l1(difference(), beta),
        BoxLossKind::L1 | BoxLossKind::SmoothL1 => difference().abs(),
        BoxLossKind::Giou => of_boxes(generalized_loss),
        BoxLossKind::Diou => of_boxes(distance_loss),
        BoxLossKind::Ciou => of_boxes(complete_loss),
    };
    (each * positives.weight.clone()).sum()
}

/// The IoU of the predicted box of each positive anchor with its object, `[positives]`, in the order of the images.
///
/// # Shapes
/// - deltas: `[batch, anchors, 4]`, without autodiff
pub(crate) fn overlap_of_positives(deltas: &Tensor<3>, positives: &PositiveTensors) -> Tensor<1> {
    let boxes = positives.boxes.as_ref().expect("boxes are copied to the device for the overlap");
    let predicted = decode(of_positives(deltas, positives), boxes.anchors.clone().without_autodiff());
    overlap(&predicted, &boxes.objects.clone().without_autodiff()).iou.reshape([positives.count])
}

/// Smooth L1: `0.5 d^2 / beta` for `|d| < beta`, otherwise `|d| - 0.5 beta` (Girshick, arXiv 1504.08083, equation 3).
fn smooth_l1(difference: Tensor<2>, beta: f64) -> Tensor<2> {
    let d = difference.abs();
    let low = d.clone().clamp_max(beta);
    // low * (d - low / 2) / beta equals both branches: low is d below beta, and beta above.
    low.clone() * (d - low * 0.5) / beta
}

/// Decodes deltas `[n, 4]` relative to anchors `[n, 4]` to boxes `[n, 4]`; anchors and boxes are corners in pixels. The
/// log ratios are clamped as in inference.
fn decode(deltas: Tensor<2>, anchors: Tensor<2>) -> Tensor<2> {
    let size = anchors.clone().narrow(1, 2, 2) - anchors.clone().narrow(1, 0, 2);
    let center = anchors.narrow(1, 0, 2) + size.clone() * 0.5;
    let center = center + deltas.clone().narrow(1, 0, 2) * size.clone();
    let half = size * deltas.narrow(1, 2, 2).clamp_max(f64::from(MAX_LOG_RATIO)).exp() * 0.5;
    Tensor::cat(vec![center.clone() - half.clone(), center + half], 1)
}
