//! Losses of pairs of boxes by their overlap: GIoU, DIoU and CIoU. All boxes are corners in pixels, `[n, 4]`.

use std::f64::consts::PI;

use burn::tensor::Tensor;

/// `eps` of torchvision's `generalized_box_iou_loss`, `distance_box_iou_loss` and `complete_box_iou_loss`.
const EPS: f64 = 1e-7;
/// Least divisor of the quotient whose arctangent [`complete_loss`] takes, in square pixels. Without it, a box whose
/// width and height are both 0 would divide 0 by 0.
const LEAST_PRODUCT: f64 = 1e-12;

/// IoU and area of the union of each pair of boxes, `[n, 1]` each.
pub(crate) struct Overlap {
    pub(crate) iou: Tensor<2>,
    pub(crate) union: Tensor<2>,
}

/// The upper left corners of boxes, `[n, 2]`.
fn low(boxes: &Tensor<2>) -> Tensor<2> {
    boxes.clone().narrow(1, 0, 2)
}

/// The lower right corners of boxes, `[n, 2]`.
fn high(boxes: &Tensor<2>) -> Tensor<2> {
    boxes.clone().narrow(1, 2, 2)
}

/// The two columns of `[n, 2]`, `[n, 1]` each.
fn columns(of: &Tensor<2>) -> [Tensor<2>; 2] {
    [0, 1].map(|column| of.clone().narrow(1, column, 1))
}

/// The product of the two columns of `[n, 2]` (width times height), `[n, 1]`.
fn product(size: Tensor<2>) -> Tensor<2> {
    size.clone().narrow(1, 0, 1) * size.narrow(1, 1, 1)
}

/// The sum of the squares of the two columns of `[n, 2]`, `[n, 1]`.
fn squared_length(vector: Tensor<2>) -> Tensor<2> {
    let [x, y] = columns(&(vector.clone() * vector));
    x + y
}

/// IoU and union of each pair of boxes.
pub(crate) fn overlap(a: &Tensor<2>, b: &Tensor<2>) -> Overlap {
    let shared = high(a).min_pair(high(b)) - low(a).max_pair(low(b));
    let intersection = product(shared.clamp_min(0.0));
    let union = product(high(a) - low(a)) + product(high(b) - low(b)) - intersection.clone();
    Overlap { iou: intersection / (union.clone() + EPS), union }
}

/// Width and height of the smallest box that encloses each pair of boxes, `[n, 2]`.
fn enclosing(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    high(a).max_pair(high(b)) - low(a).min_pair(low(b))
}

/// `1 - GIoU` of each pair of boxes (Rezatofighi et al., arXiv 1902.09630), `[n, 1]`.
pub(crate) fn generalized_loss(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    let Overlap { iou, union } = overlap(a, b);
    let enclosing = product(enclosing(a, b));
    let giou = iou - (enclosing.clone() - union) / (enclosing + EPS);
    (giou - 1.0) * -1.0
}

/// `1 - IoU + d^2 / c^2` of each pair of boxes, `[n, 1]`, where `d` is the distance of the centres and `c` the diagonal
/// of the enclosing box (Zheng et al., arXiv 1911.08287, equation 7).
pub(crate) fn distance_loss(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    distance_loss_of(&overlap(a, b).iou, a, b)
}

/// [`distance_loss`] of boxes whose IoU is known.
fn distance_loss_of(iou: &Tensor<2>, a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    let center = |boxes: &Tensor<2>| (low(boxes) + high(boxes)) * 0.5;
    let distance = squared_length(center(a) - center(b)) / (squared_length(enclosing(a, b)) + EPS);
    distance - iou.clone() + 1.0
}

/// `1 - IoU + d^2 / c^2 + alpha * v` of each pair of a predicted box `a` and an object `b`, `[n, 1]` (Zheng et al.,
/// arXiv 1911.08287, equation 10): the [`distance_loss`] and a penalty for another ratio of width to height.
///
/// `v` is `4 / pi^2` times the square of the difference of the angles `atan(width / height)`, and `alpha` is
/// `v / (1 - IoU + v)`, through which no gradient flows (equations 9 and 11). The difference of the two angles is
/// computed as one arctangent, `atan((w h' - w' h) / (h h' + w w'))`, which is finite with a finite gradient if a
/// predicted box has no width or no height.
pub(crate) fn complete_loss(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    let iou = overlap(a, b).iou;
    let [[width, height], [object_width, object_height]] = [a, b].map(|boxes| columns(&(high(boxes) - low(boxes))));
    let cross = object_width.clone() * height.clone() - width.clone() * object_height.clone();
    let dot = object_height * height + object_width * width;
    let angle = (cross / dot.clamp_min(LEAST_PRODUCT)).atan();
    let v = angle.clone() * angle * (4.0 / (PI * PI));
    let constant = v.clone().detach();
    // Rounding may make the IoU of equal boxes larger than 1.
    let rest = (iou.clone().detach() - 1.0).neg().clamp_min(0.0);
    let alpha = constant.clone() / (rest + constant + EPS);
    distance_loss_of(&iou, a, b) + alpha * v
}
