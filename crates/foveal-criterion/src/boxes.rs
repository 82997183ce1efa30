//! The box loss over positive anchors.

use burn::tensor::{Int, Tensor, TensorData};
use foveal_anchors::{ImageTargets, Positive};
use foveal_boxes::{BBox, MAX_LOG_RATIO};

use crate::config::BoxLossKind;

/// `eps` of torchvision's `generalized_box_iou_loss`.
const GIOU_EPS: f64 = 1e-7;
/// Value of `loss.beta` up to which smooth L1 is computed as L1. The two differ by at most half of it, which is less
/// than the rounding of any difference of deltas, and the division by a smaller number would not be finite. PyTorch too
/// computes L1 for a `beta` of 0.
const LEAST_BETA: f64 = 1e-20;

/// The positive anchors of a batch, each with the index of its image, and their predicted deltas.
struct Positives<'a> {
    each: Vec<(usize, &'a Positive)>,
    /// `[positives, 4]`
    deltas: Tensor<2>,
}

impl<'a> Positives<'a> {
    /// Collects the positives; `None` if there are none. `deltas` is `[batch, anchors, 4]`.
    fn of(deltas: &Tensor<3>, targets: &'a [ImageTargets]) -> Option<Self> {
        let [batch, anchors, _] = deltas.dims();
        let each: Vec<(usize, &Positive)> =
            targets.iter().enumerate().flat_map(|(i, t)| t.positives.iter().map(move |p| (i, p))).collect();
        if each.is_empty() {
            return None;
        }
        let rows: Vec<i32> = each.iter().map(|(i, p)| (i * anchors) as i32 + p.anchor as i32).collect();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [each.len()]), &deltas.device());
        let deltas = deltas.clone().reshape([batch * anchors, 4]).select(0, rows);
        Some(Self { each, deltas })
    }

    /// A tensor of four numbers per positive anchor, `[positives, 4]`.
    fn column(&self, f: impl Fn(&Positive) -> [f32; 4]) -> Tensor<2> {
        let values: Vec<f32> = self.each.iter().flat_map(|(_, p)| f(p)).collect();
        Tensor::from_data(TensorData::new(values, [self.each.len(), 4]), &self.deltas.device())
    }

    fn objects(&self) -> Tensor<2> {
        self.column(|p| corners(p.object))
    }

    /// The predicted boxes as corners in pixels, `[positives, 4]`.
    fn boxes(&self) -> Tensor<2> {
        decode(self.deltas.clone(), self.column(|p| corners(p.anchor_box)))
    }
}

fn corners(b: BBox) -> [f32; 4] {
    [b.x1, b.y1, b.x2, b.y2]
}

/// The weighted sum of the box loss over all positive anchors, `[1]`. Without positives it is 0 and still part of the
/// autodiff graph.
///
/// # Shapes
/// - deltas: `[batch, anchors, 4]`
/// - weights: one number per image
pub(crate) fn weighted(
    deltas: Tensor<3>,
    targets: &[ImageTargets],
    weights: &[f64],
    kind: BoxLossKind,
    beta: f64,
) -> Tensor<1> {
    let Some(positives) = Positives::of(&deltas, targets) else {
        return deltas.narrow(1, 0, 1).sum() * 0.0;
    };
    let weight: Vec<f32> = positives.each.iter().map(|(i, _)| weights[*i] as f32).collect();
    let weight = Tensor::<2>::from_data(TensorData::new(weight, [positives.each.len(), 1]), &deltas.device());
    let difference = || positives.deltas.clone() - positives.column(|p| p.delta.to_array());
    let each = match kind {
        BoxLossKind::SmoothL1 if beta > LEAST_BETA => smooth_l1(difference(), beta),
        BoxLossKind::L1 | BoxLossKind::SmoothL1 => difference().abs(),
        BoxLossKind::Giou => giou_loss(&positives.boxes(), &positives.objects()),
    };
    (each * weight).sum()
}

/// The IoU of the predicted box of each positive anchor with its object, `[positives]`, in the order of the images.
/// `None` if there are no positives.
///
/// # Shapes
/// - deltas: `[batch, anchors, 4]`, without autodiff
pub(crate) fn overlap_of_positives(deltas: &Tensor<3>, targets: &[ImageTargets]) -> Option<Tensor<1>> {
    let positives = Positives::of(deltas, targets)?;
    Some(overlap(&positives.boxes(), &positives.objects()).iou.reshape([positives.each.len()]))
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

/// IoU and area of the union of each pair of boxes, `[n, 1]` each.
struct Overlap {
    iou: Tensor<2>,
    union: Tensor<2>,
}

fn low(t: &Tensor<2>) -> Tensor<2> {
    t.clone().narrow(1, 0, 2)
}

fn high(t: &Tensor<2>) -> Tensor<2> {
    t.clone().narrow(1, 2, 2)
}

/// The product of the two columns of `[n, 2]` (width times height), `[n, 1]`.
fn product(size: Tensor<2>) -> Tensor<2> {
    size.clone().narrow(1, 0, 1) * size.narrow(1, 1, 1)
}

fn overlap(a: &Tensor<2>, b: &Tensor<2>) -> Overlap {
    let shared = high(a).min_pair(high(b)) - low(a).max_pair(low(b));
    let intersection = product(shared.clamp_min(0.0));
    let union = product(high(a) - low(a)) + product(high(b) - low(b)) - intersection.clone();
    Overlap { iou: intersection / (union.clone() + GIOU_EPS), union }
}

/// `1 - GIoU` of each pair of boxes (Rezatofighi et al., arXiv 1902.09630), `[n, 1]`.
fn giou_loss(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    let Overlap { iou, union } = overlap(a, b);
    let enclosing = product(high(a).max_pair(high(b)) - low(a).min_pair(low(b)));
    let giou = iou - (enclosing.clone() - union) / (enclosing + GIOU_EPS);
    (giou - 1.0) * -1.0
}
