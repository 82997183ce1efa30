//! Intersection over union and its generalised, distance and complete variants.

use crate::BBox;
use std::f32::consts::PI;

/// Intersection over union (IoU) of two boxes in pixels of the same image, from 0 to 1; 0 for two empty boxes, where it
/// is undefined.
///
/// It is computed in `f32` and in the order of operations of torchvision's `box_iou` (the two areas are added, then the
/// intersection is subtracted), so that comparisons with a threshold give the same result.
pub fn iou(a: &BBox, b: &BBox) -> f32 {
    let intersection = a.intersection(b);
    ratio(intersection, a.area() + b.area() - intersection)
}

/// Generalised IoU of two boxes, from -1 to 1 (Rezatofighi et al., arXiv 1902.09630, algorithm 1): the IoU minus the
/// fraction of the smallest enclosing box that neither box covers. A fraction of an empty enclosing box counts as 0.
pub fn giou(a: &BBox, b: &BBox) -> f32 {
    let intersection = a.intersection(b);
    let union = a.area() + b.area() - intersection;
    let enclosing = enclosing_box(a, b).area();
    ratio(intersection, union) - ratio(enclosing - union, enclosing)
}

/// Distance IoU of two boxes, from -1 to 1 (Zheng et al., arXiv 1911.08287, equation 7): the IoU minus the squared
/// distance of the centres divided by the squared diagonal of the smallest enclosing box.
pub fn diou(a: &BBox, b: &BBox) -> f32 {
    let enclosing = enclosing_box(a, b);
    let ((ax, ay), (bx, by)) = (a.center(), b.center());
    let distance = (ax - bx).powi(2) + (ay - by).powi(2);
    iou(a, b) - ratio(distance, enclosing.width().powi(2) + enclosing.height().powi(2))
}

/// Complete IoU of two boxes (Zheng et al., arXiv 1911.08287, equations 8 to 11): the distance IoU minus a term that
/// grows with the difference of the aspect ratios.
pub fn ciou(a: &BBox, b: &BBox) -> f32 {
    let angle = |b: &BBox| b.width().atan2(b.height());
    let v = 4.0 / (PI * PI) * (angle(a) - angle(b)).powi(2);
    diou(a, b) - ratio(v, 1.0 - iou(a, b) + v) * v
}

/// The IoU of every box of `a` with every box of `b`, as `torchvision.ops.box_iou` returns it.
///
/// # Shapes
/// The result is `[a.len(), b.len()]`, row-major: the IoU of `a[i]` and `b[j]` is at index `i * b.len() + j`.
pub fn iou_matrix(a: &[BBox], b: &[BBox]) -> Vec<f32> {
    a.iter().flat_map(|a| b.iter().map(move |b| iou(a, b))).collect()
}

/// The smallest box that contains both boxes.
fn enclosing_box(a: &BBox, b: &BBox) -> BBox {
    BBox::new(a.x1.min(b.x1), a.y1.min(b.y1), a.x2.max(b.x2), a.y2.max(b.y2))
}

/// `numerator / denominator`, or 0 if the denominator is not positive.
fn ratio(numerator: f32, denominator: f32) -> f32 {
    if denominator > 0.0 { numerator / denominator } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Two 2x2 squares that share a 1x1 corner: IoU 1 / 7. The enclosing box has area 9, of which 2 are covered by
        // neither square. The centres are sqrt(2) apart.
        let (a, b) = (BBox::new(0.0, 0.0, 2.0, 2.0), BBox::new(1.0, 1.0, 3.0, 3.0));
        assert!((iou(&a, &b) - 1.0 / 7.0).abs() < 1e-7);
        assert!((giou(&a, &b) - (1.0 / 7.0 - 2.0 / 9.0)).abs() < 1e-7);
        assert!((diou(&a, &b) - (1.0 / 7.0 - 2.0 / 18.0)).abs() < 1e-7);
        assert_eq!(ciou(&a, &b), diou(&a, &b));
        assert_eq!(iou_matrix(&[a, b], &[a]), vec![1.0, iou(&a, &b)]);
    }

    #[test]
    fn empty_boxes_give_no_nan() {
        let empty = BBox::new(3.0, 3.0, 3.0, 3.0);
        for f in [iou, giou, diou, ciou] {
            assert_eq!(f(&empty, &empty), 0.0);
        }
    }
}
