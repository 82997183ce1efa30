//! Greedy non-maximum suppression.

use crate::{BBox, iou};
use std::cmp::Ordering;

/// Greedy non-maximum suppression over boxes of one class, as `torchvision.ops.nms` computes it.
///
/// Repeatedly keeps the remaining box with the highest score and drops all boxes whose IoU with it is above
/// `iou_threshold` (0 to 1). Returns the indices of the kept boxes in descending order of score; among equal scores,
/// the lower index comes first. A NaN score counts as the lowest.
///
/// # Shapes
/// - boxes, in pixels: `[n]`
/// - scores: `[n]`
///
/// # Panics
/// If `boxes` and `scores` differ in length.
pub fn nms(boxes: &[BBox], scores: &[f32], iou_threshold: f32) -> Vec<usize> {
    assert_eq!(boxes.len(), scores.len(), "expected one score for each box");
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by(|&a, &b| by_score(scores, a, b));
    suppress(boxes, &order, iou_threshold)
}

/// Greedy non-maximum suppression within each class, as `torchvision.ops.batched_nms` computes it: boxes of different
/// classes never suppress each other.
///
/// Within a class, a box is dropped if its IoU with a kept box of a higher score is above `iou_threshold` (0 to 1).
/// Returns the indices of the kept boxes of all classes in descending order of score; among equal scores, the lower
/// index comes first. A NaN score counts as the lowest.
///
/// # Shapes
/// - boxes, in pixels: `[n]`
/// - scores: `[n]`
/// - classes: `[n]`
///
/// # Panics
/// If `boxes`, `scores` and `classes` differ in length.
pub fn class_nms(boxes: &[BBox], scores: &[f32], classes: &[u32], iou_threshold: f32) -> Vec<usize> {
    assert_eq!(boxes.len(), scores.len(), "expected one score for each box");
    assert_eq!(boxes.len(), classes.len(), "expected one class for each box");
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by(|&a, &b| classes[a].cmp(&classes[b]).then_with(|| by_score(scores, a, b)));
    let mut kept: Vec<usize> = order
        .chunk_by(|&a, &b| classes[a] == classes[b])
        .flat_map(|of_class| suppress(boxes, of_class, iou_threshold))
        .collect();
    kept.sort_by(|&a, &b| by_score(scores, a, b));
    kept
}

/// Orders the indices `a` and `b` by descending score, then by ascending index. A NaN score comes last.
fn by_score(scores: &[f32], a: usize, b: usize) -> Ordering {
    let value = |i: usize| if scores[i].is_nan() { f32::NEG_INFINITY } else { scores[i] };
    value(b).partial_cmp(&value(a)).unwrap_or(Ordering::Equal).then(a.cmp(&b))
}

/// The indices of `order` whose boxes have no IoU above the threshold with an earlier box that was kept.
fn suppress(boxes: &[BBox], order: &[usize], iou_threshold: f32) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for &candidate in order {
        if kept.iter().all(|&k| iou(&boxes[k], &boxes[candidate]) <= iou_threshold) {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOXES: [BBox; 4] = [
        BBox::new(0.0, 0.0, 10.0, 10.0),
        BBox::new(1.0, 0.0, 11.0, 10.0), // IoU 9 / 11 with the first
        BBox::new(20.0, 0.0, 30.0, 10.0),
        BBox::new(0.0, 0.0, 10.0, 5.0), // IoU exactly 1 / 2 with the first, 45 / 105 with the second
    ];

    #[test]
    fn suppresses_above_the_threshold_only() {
        assert_eq!(nms(&BOXES, &[0.9, 0.8, 0.7, 0.6], 0.5), vec![0, 2, 3]);
        assert_eq!(nms(&BOXES, &[0.9, 0.8, 0.7, 0.6], 0.49), vec![0, 2]);
    }

    #[test]
    fn ties_go_to_the_lower_index_and_nan_is_last() {
        assert_eq!(nms(&BOXES, &[0.5; 4], 0.5), vec![0, 2, 3]);
        assert_eq!(nms(&BOXES, &[f32::NAN, 0.8, 0.7, 0.6], 0.45), vec![1, 2, 3]);
    }

    #[test]
    fn classes_do_not_suppress_each_other() {
        assert_eq!(class_nms(&BOXES, &[0.6, 0.7, 0.8, 0.9], &[0, 1, 0, 1], 0.3), vec![3, 2, 0]);
        assert!(class_nms(&[], &[], &[], 0.5).is_empty());
    }
}
