//! The likely reason for a low AP50 is named for each kind of mistake.

use std::path::Path;

use foveal_coco::{CocoDataset, CocoDetection};
use foveal_eval::{near_zero, score};
use serde_json::json;

/// Ten images of 400x100 with three objects each, of three classes with ids 1, 2, 5.
fn truth() -> CocoDataset {
    let images: Vec<_> =
        (0..10).map(|i| json!({"id": i, "file_name": format!("{i}.jpg"), "width": 400, "height": 100})).collect();
    let object = |i: i64| {
        let (x, y) = (100 + 80 * (i % 3), 30 + i / 3);
        let bbox = [x, y, 30, 40 + i % 7];
        let category_id = [1, 2, 5][(i % 3) as usize];
        json!({"id": i + 1, "image_id": i / 3, "category_id": category_id, "bbox": bbox,
               "area": 30 * (40 + i % 7), "iscrowd": 0})
    };
    let annotations: Vec<_> = (0..30).map(object).collect();
    let categories = json!([{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 5, "name": "owl"}]);
    let file = json!({"images": images, "annotations": annotations, "categories": categories});
    CocoDataset::from_bytes(file.to_string().as_bytes(), Path::new("truth")).unwrap()
}

/// A perfect detection for each object, changed by `change`.
fn detections(change: impl Fn(&mut CocoDetection)) -> Vec<CocoDetection> {
    let perfect = truth().annotations.into_iter().map(|a| CocoDetection {
        image_id: a.image_id,
        category_id: a.category_id,
        bbox: a.bbox,
        score: 0.9,
    });
    perfect
        .map(|mut d| {
            change(&mut d);
            d
        })
        .collect()
}

/// The reason that is given for the low AP50 of the detections.
fn reason(detections: &[CocoDetection]) -> String {
    let scored = score(&truth(), detections).unwrap();
    assert!(scored.metrics.ap50 < 0.1, "{:?}", scored.metrics);
    scored.near_zero.expect("a reason")
}

#[test]
fn good_metrics_have_no_reason() {
    let scored = score(&truth(), &detections(|_| ())).unwrap();
    assert!(scored.metrics.ap50 > 0.99 && scored.notes.is_empty() && scored.near_zero.is_none(), "{scored:?}");
    let mut without = truth();
    without.annotations.clear();
    assert_eq!(near_zero(&without, &[], -1.0), None);
}

#[test]
fn misread_boxes_are_named() {
    let corners = detections(|d| d.bbox = [d.bbox[0], d.bbox[1], d.bbox[0] + d.bbox[2], d.bbox[1] + d.bbox[3]]);
    let text = reason(&corners);
    let said = "If bbox is read as corners, [x1, y1, x2, y2], 100 % of the objects have such a detection.";
    assert!(text.contains(said), "{text}");
    let swapped = reason(&detections(|d| d.bbox = [d.bbox[1], d.bbox[0], d.bbox[3], d.bbox[2]]));
    assert!(swapped.contains("[y, x, height, width]"), "{swapped}");
    let fractions = reason(&detections(|d| {
        let [x, y, w, h] = d.bbox;
        d.bbox = [(x + w / 2.0) / 400.0, (y + h / 2.0) / 100.0, w / 400.0, h / 100.0];
    }));
    assert!(fractions.contains("[center x, center y, width, height] in fractions"), "{fractions}");
    let resized = reason(&detections(|d| d.bbox = d.bbox.map(|v| v * if d.image_id % 2 == 0 { 1.9 } else { 1.7 })));
    assert!(
        resized.contains("If the boxes are divided by about 1.")
            && resized.contains("100 % of the objects have such a detection")
            && resized.contains("resized"),
        "{resized}"
    );
}

#[test]
fn shifted_and_mixed_classes_are_named() {
    let shifted = reason(&detections(|d| d.category_id -= 1));
    assert!(shifted.contains("1 below") && shifted.contains("shifted"), "{shifted}");
    let mixed = reason(&detections(|d| d.category_id = if d.category_id == 1 { 5 } else { 1 }));
    assert!(mixed.contains("dog detected as cat (10)") && mixed.contains("same order"), "{mixed}");
}

#[test]
fn other_images_loose_boxes_and_nothing_at_all_are_named() {
    let few = near_zero(&truth(), &detections(|d| d.image_id = 0)[3..], 0.0).unwrap();
    assert!(few.contains("Only 1 of 10 images"), "{few}");
    let loose = reason(&detections(|d| d.bbox = [d.bbox[0] + 15.0, d.bbox[1] + 5.0, d.bbox[2], d.bbox[3]]));
    assert!(loose.contains("do not fit"), "{loose}");
    let none = reason(&[]);
    assert!(none.contains("there are no detections"), "{none}");
    let astray = reason(&detections(|d| (d.bbox, d.score) = ([190.0, 90.0, 5.0, 5.0], 0.06)));
    assert!(astray.contains("0.060") && astray.contains("--overfit"), "{astray}");
}

#[test]
fn objects_below_false_alarms_are_named() {
    let mut all = detections(|d| d.score = 0.1);
    for image_id in 0..10 {
        for category_id in [1, 2, 5] {
            let alarm = |i| CocoDetection { image_id, category_id, bbox: [f64::from(i), 80.0, 3.0, 3.0], score: 0.5 };
            all.extend((0..30).map(alarm));
        }
    }
    // About one detection in thirty is right, and all of these have the lowest scores.
    let scored = score(&truth(), &all).unwrap();
    let text = near_zero(&truth(), &all, 0.01).unwrap();
    assert!(
        scored.metrics.ap50 < 0.1 && text.contains("false positives have higher scores"),
        "{text} {:?}",
        scored.metrics
    );
}
