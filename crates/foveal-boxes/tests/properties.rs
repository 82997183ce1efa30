//! Properties that hold for all boxes.

use foveal_boxes::{BBox, ciou, class_nms, decode, diou, encode, giou, iou, nms};
use proptest::prelude::*;

/// Boxes as a detector handles them: sides of 1 to 500 pixels, in or near an image.
fn boxes() -> impl Strategy<Value = BBox> {
    (-50.0f32..1000.0, -50.0f32..1000.0, 1.0f32..500.0, 1.0f32..500.0)
        .prop_map(|(x, y, w, h)| BBox::new(x, y, x + w, y + h))
}

proptest! {
    #[test]
    fn iou_is_symmetric_and_bounded(a in boxes(), b in boxes()) {
        let v = iou(&a, &b);
        prop_assert_eq!(v, iou(&b, &a));
        // One rounding of `x + w` and the areas: an f32 step above 1 is possible for nearly equal boxes.
        prop_assert!((0.0..=1.0 + 1e-5).contains(&v));
        prop_assert!((iou(&a, &a) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn variants_are_ordered(a in boxes(), b in boxes()) {
        prop_assert!(giou(&a, &b) <= iou(&a, &b) + 1e-5 && giou(&a, &b) >= -1.0 - 1e-5);
        prop_assert!(diou(&a, &b) <= iou(&a, &b) && diou(&a, &b) >= -1.0);
        prop_assert!(ciou(&a, &b) <= diou(&a, &b));
    }

    #[test]
    fn decode_inverts_encode(anchor in boxes(), object in boxes()) {
        // Within the bound on growth (1000 / 16) that decoding applies.
        prop_assume!(object.width() / anchor.width() < 62.0 && object.height() / anchor.height() < 62.0);
        let back = decode(&anchor, encode(&anchor, &object));
        // A few f32 steps of the largest coordinate, magnified by the centre's shift in anchor widths.
        let close = |a: f32, b: f32| (a - b).abs() < 2e-3;
        prop_assert!(close(back.x1, object.x1) && close(back.y1, object.y1), "{:?} {:?}", back, object);
        prop_assert!(close(back.x2, object.x2) && close(back.y2, object.y2), "{:?} {:?}", back, object);
    }

    #[test]
    fn flips_are_involutions(b in boxes()) {
        let twice = b.flip_horizontal(1024.0).flip_horizontal(1024.0);
        prop_assert!((twice.x1 - b.x1).abs() < 1e-3 && (twice.x2 - b.x2).abs() < 1e-3);
        let twice = b.flip_vertical(1024.0).flip_vertical(1024.0);
        prop_assert!((twice.y1 - b.y1).abs() < 1e-3 && (twice.y2 - b.y2).abs() < 1e-3);
    }

    #[test]
    fn nms_keeps_the_best_separates_and_is_idempotent(
        all in prop::collection::vec((boxes(), 0.0f32..1.0), 1..40),
        threshold in 0.1f32..0.9,
    ) {
        let (b, s): (Vec<BBox>, Vec<f32>) = all.into_iter().unzip();
        let kept = nms(&b, &s, threshold);
        let best = s.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        prop_assert_eq!(s[kept[0]], best);
        prop_assert!(kept.windows(2).all(|w| s[w[0]] >= s[w[1]]));
        for (i, &a) in kept.iter().enumerate() {
            prop_assert!(kept[..i].iter().all(|&k| iou(&b[k], &b[a]) <= threshold));
        }
        // Each dropped box overlaps a kept box with a higher score.
        for dropped in (0..b.len()).filter(|i| !kept.contains(i)) {
            prop_assert!(kept.iter().any(|&k| s[k] >= s[dropped] && iou(&b[k], &b[dropped]) > threshold));
        }
        let (b2, s2): (Vec<BBox>, Vec<f32>) = kept.iter().map(|&k| (b[k], s[k])).unzip();
        prop_assert_eq!(nms(&b2, &s2, threshold), (0..kept.len()).collect::<Vec<_>>());
    }

    #[test]
    fn class_nms_is_nms_of_each_class(
        all in prop::collection::vec((boxes(), 0.0f32..1.0, 0u32..3), 0..40),
        threshold in 0.1f32..0.9,
    ) {
        let b: Vec<BBox> = all.iter().map(|a| a.0).collect();
        let s: Vec<f32> = all.iter().map(|a| a.1).collect();
        let c: Vec<u32> = all.iter().map(|a| a.2).collect();
        let kept = class_nms(&b, &s, &c, threshold);
        prop_assert!(kept.windows(2).all(|w| s[w[0]] >= s[w[1]]));
        for class in 0..3 {
            let of_class: Vec<usize> = (0..b.len()).filter(|&i| c[i] == class).collect();
            let (b1, s1): (Vec<BBox>, Vec<f32>) = of_class.iter().map(|&i| (b[i], s[i])).unzip();
            let alone: Vec<usize> = nms(&b1, &s1, threshold).into_iter().map(|k| of_class[k]).collect();
            let merged: Vec<usize> = kept.iter().copied().filter(|&k| c[k] == class).collect();
            prop_assert_eq!(alone, merged);
        }
    }
}
