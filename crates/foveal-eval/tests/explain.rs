//! Planted causes of low metrics are ranked first, and good detections have none.

use std::path::Path;

use foveal_coco::{CocoDataset, CocoDetection};
use foveal_eval::{Explanation, explain, score};
use serde_json::json;

/// A small generator of numbers from 0 to below 1 (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number from -1 to 1, more often near 0.
    fn noise(&mut self) -> f64 {
        (self.next() + self.next() + self.next()) / 1.5 - 1.0
    }
}

const CATEGORIES: [(i64, &str); 5] = [(1, "cat"), (2, "dog"), (5, "owl"), (6, "fish"), (9, "tree")];
const SIZES: [(u32, u32); 6] = [(640, 480), (500, 375), (375, 500), (1024, 560), (420, 420), (800, 600)];
const IMAGES: usize = 40;

/// The id of an image; the ids have gaps.
fn image_id(index: usize) -> i64 {
    100 + 7 * index as i64
}

/// Images of different sizes with two to seven objects each, of five classes.
fn truth() -> CocoDataset {
    let mut random = Random(1);
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for index in 0..IMAGES {
        let (width, height) = SIZES[index % SIZES.len()];
        let id = image_id(index);
        images.push(json!({"id": id, "file_name": format!("{:06}.jpg", 5000 - 3 * index), "width": width,
                           "height": height}));
        for _ in 0..2 + (random.next() * 6.0) as usize {
            let (w, h) = (25.0 + 130.0 * random.next(), 25.0 + 130.0 * random.next());
            let (x, y) = (random.next() * (f64::from(width) - w), random.next() * (f64::from(height) - h));
            let category = CATEGORIES[(random.next() * 5.0) as usize].0;
            annotations.push(json!({"id": annotations.len() + 1, "image_id": id, "category_id": category,
                                    "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}));
        }
    }
    let categories: Vec<_> = CATEGORIES.iter().map(|(id, name)| json!({"id": id, "name": name})).collect();
    let file = json!({"images": images, "annotations": annotations, "categories": categories});
    CocoDataset::from_bytes(file.to_string().as_bytes(), Path::new("truth")).unwrap()
}

/// Detections of most objects with noise in boxes, scores and classes, with false alarms of mostly low scores.
fn detections(truth: &CocoDataset, noise: f64) -> Vec<CocoDetection> {
    let mut random = Random(2);
    let mut found = Vec::new();
    for a in &truth.annotations {
        if random.next() < 0.12 {
            continue;
        }
        let [x, y, w, h] = a.bbox;
        let mut moved = |side: f64| noise * side * random.noise();
        let bbox = [x + moved(w), y + moved(h), w + moved(w), h + moved(h)];
        let wrong = random.next() < 0.05;
        let category_id = if wrong { CATEGORIES[(random.next() * 5.0) as usize].0 } else { a.category_id };
        found.push(CocoDetection { image_id: a.image_id, category_id, bbox, score: 0.3 + 0.69 * random.next() });
    }
    for image in &truth.images {
        for alarm in 0..6 {
            let (w, h) = (20.0 + 100.0 * random.next(), 20.0 + 100.0 * random.next());
            let bbox = [random.next() * f64::from(image.width), random.next() * f64::from(image.height), w, h];
            let category_id = CATEGORIES[(random.next() * 5.0) as usize].0;
            let most = if alarm == 0 { 0.7 } else { 0.25 };
            found.push(CocoDetection { image_id: image.id, category_id, bbox, score: 0.05 + most * random.next() });
        }
    }
    found
}

/// The detections after a change of each, which gets the width and height of its image.
fn changed(change: impl Fn(&mut CocoDetection, [f64; 2])) -> Vec<CocoDetection> {
    let truth = truth();
    let mut found = detections(&truth, 0.12);
    for d in &mut found {
        let image = truth.images.iter().find(|image| image.id == d.image_id).unwrap();
        change(d, [f64::from(image.width), f64::from(image.height)]);
    }
    found
}

fn of_boxes(change: impl Fn([f64; 4], [f64; 2]) -> [f64; 4]) -> Vec<CocoDetection> {
    changed(|d, size| d.bbox = change(d.bbox, size))
}

/// Asserts that the first cause has this key.
#[track_caller]
fn first(truth: &CocoDataset, detections: &[CocoDetection], cause: &str) -> Explanation {
    let found = explain(truth, detections).unwrap();
    assert_eq!(found.causes.first().map(|check| check.cause), Some(cause), "{}", found.list());
    assert!(found.causes.is_sorted_by(|a, b| a.strength >= b.strength));
    assert!(found.causes.iter().all(|check| !check.advice.is_empty()), "{}", found.list());
    found
}

/// Asserts that the first cause is this one, and that correcting it brings most of AP50 back.
#[track_caller]
fn corrected(detections: &[CocoDetection], cause: &str) -> String {
    let found = first(&truth(), detections, cause);
    let ap50 = found.causes[0].ap50.expect("a corrected AP50");
    assert!(ap50 > 0.6, "{}", found.list());
    found.causes[0].measured.clone()
}

#[test]
fn good_detections_have_no_cause() {
    let truth = truth();
    let found = detections(&truth, 0.12);
    let ap50 = score(&truth, &found).unwrap().metrics.ap50;
    assert!(ap50 > 0.6, "{ap50}");
    let explanation = explain(&truth, &found).unwrap();
    assert!(explanation.causes.is_empty() && explanation.checked.len() > 15, "{}", explanation.list());
    let measured = explanation.measured.unwrap();
    assert_eq!(measured.ap.len(), 5);
    assert!((measured.ap[4].with_classes - ap50).abs() < 1e-12, "{measured:?}");
    assert!(measured.ap[4].without_classes > ap50 && measured.ap[0].with_classes >= measured.ap[4].with_classes);
}

#[test]
fn category_ids_are_explained() {
    let shifted = corrected(&changed(|d, _| d.category_id += 1), "category_ids_shifted");
    assert!(shifted.contains("1 is subtracted from every category_id"), "{shifted}");
    let numbered = changed(|d, _| d.category_id = CATEGORIES.iter().position(|c| c.0 == d.category_id).unwrap() as i64);
    assert!(corrected(&numbered, "category_ids_shifted").contains("position"));
    let mixed = [(1, 6), (2, 1), (5, 9), (6, 5), (9, 2)];
    let permuted = changed(|d, _| d.category_id = mixed.iter().find(|(from, _)| *from == d.category_id).unwrap().1);
    assert!(corrected(&permuted, "category_ids_permuted").contains("cat as fish"));
    let two = changed(|d, _| {
        d.category_id = match d.category_id {
            1 => 2,
            2 => 1,
            other => other,
        }
    });
    corrected(&two, "category_ids_permuted");
    first(&truth(), &changed(|d, _| d.category_id = 2), "one_class");
    let mut random = Random(3);
    let mut any = detections(&truth(), 0.12);
    any.iter_mut().for_each(|d| d.category_id = CATEGORIES[(random.next() * 5.0) as usize].0);
    first(&truth(), &any, "classes_confused");
    let mut without = detections(&truth(), 0.12);
    without.retain(|d| d.category_id < 5);
    first(&truth(), &without, "classes_without_detections");
}

#[test]
fn layouts_of_boxes_are_explained() {
    let corners = corrected(&of_boxes(|[x, y, w, h], _| [x, y, x + w, y + h]), "box_layout");
    assert!(corners.contains("[x1, y1, x2, y2]"), "{corners}");
    let rows = corrected(&of_boxes(|[x, y, w, h], _| [y, x, y + h, x + w]), "box_layout");
    assert!(rows.contains("[y1, x1, y2, x2]"), "{rows}");
    corrected(&of_boxes(|[x, y, w, h], _| [y, x, h, w]), "box_layout");
    corrected(&of_boxes(|[x, y, w, h], _| [x + w / 2.0, y + h / 2.0, w, h]), "box_layout");
    let fractions = |b: [f64; 4], [width, height]: [f64; 2], whole: f64| {
        [b[0] / width * whole, b[1] / height * whole, b[2] / width * whole, b[3] / height * whole]
    };
    corrected(&of_boxes(|b, size| fractions(b, size, 1.0)), "box_fractions");
    let centers = |[x, y, w, h]: [f64; 4]| [x + w / 2.0, y + h / 2.0, w, h];
    corrected(&of_boxes(|b, size| fractions(centers(b), size, 1.0)), "box_fractions");
    corrected(&of_boxes(|b, size| fractions(b, size, 100.0)), "box_fractions");
    let corner = |[x, y, w, h]: [f64; 4]| [x, y, x + w, y + h];
    corrected(&of_boxes(|b, size| fractions(corner(b), size, 1000.0)), "box_fractions");
    // The annotations are in another layout.
    let found = detections(&truth(), 0.12);
    let mut other = truth();
    other.annotations.iter_mut().for_each(|a| a.bbox = corner(a.bbox));
    first(&other, &found, "annotation_layout");
    first(&truth(), &of_boxes(|[x, y, _, _], _| [x, y, 0.0, 0.0]), "empty_boxes");
}

#[test]
fn boxes_of_other_images_are_explained() {
    let all = |b: [f64; 4], x: f64, y: f64| [b[0] * x, b[1] * y, b[2] * x, b[3] * y];
    let half = corrected(&of_boxes(|b, _| all(b, 0.5, 0.5)), "resized_boxes");
    assert!(half.contains("divided by 0."), "{half}");
    corrected(&of_boxes(|b, _| all(b, 1.7, 0.8)), "resized_boxes");
    let fixed = corrected(&of_boxes(|b, [w, h]| all(b, 640.0 / w, 640.0 / h)), "resized_boxes");
    assert!(fixed.contains("resized to 6"), "{fixed}");
    corrected(&of_boxes(|b, [w, h]| all(b, 512.0 / w.max(h), 512.0 / w.max(h))), "resized_boxes");
    let short = |w: f64, h: f64| (800.0 / w.min(h)).min(1333.0 / w.max(h));
    corrected(&of_boxes(|b, [w, h]| all(b, short(w, h), short(w, h))), "resized_boxes");
    let padded = of_boxes(|b, [w, h]| {
        let factor = 640.0 / w.max(h);
        let [x, y, width, height] = all(b, factor, factor);
        [x + (640.0 - factor * w) / 2.0, y + (640.0 - factor * h) / 2.0, width, height]
    });
    corrected(&padded, "letterbox_boxes");
    corrected(&of_boxes(|[x, y, w, h], _| [0.6 * x + 50.0, 0.6 * y + 90.0, 0.6 * w, 0.6 * h]), "letterbox_boxes");
    let moved = corrected(&of_boxes(|[x, y, w, h], _| [x + 70.0, y - 50.0, w, h]), "shifted_boxes");
    assert!(moved.contains("moved by (-"), "{moved}");
    corrected(&of_boxes(|[x, y, w, h], _| [x - 0.4 * w, y - 0.4 * h, 1.8 * w, 1.8 * h]), "box_size");
    corrected(&of_boxes(|[x, y, w, h], [width, _]| [width - x - w, y, w, h]), "mirrored_boxes");
    corrected(&of_boxes(|[x, y, w, h], [width, height]| [width - x - w, height - y - h, w, h]), "turned_boxes");
    corrected(&of_boxes(|[x, y, w, h], [_, height]| [height - y - h, x, h, w]), "turned_boxes");
    corrected(&of_boxes(|[x, y, w, h], [width, _]| [y, width - x - w, h, w]), "turned_boxes");
}

#[test]
fn image_ids_are_explained() {
    corrected(&changed(|d, _| d.image_id += 1), "image_ids_shifted");
    corrected(&changed(|d, _| d.image_id -= 100_000), "image_ids_shifted");
    let index = |id: i64| (id - 100) as usize / 7;
    corrected(&changed(|d, _| d.image_id = image_id((index(d.image_id) + 1) % IMAGES)), "image_ids_shifted");
    let numbered = corrected(&changed(|d, _| d.image_id = index(d.image_id) as i64), "image_ids_numbered");
    assert!(numbered.contains("from 0"), "{numbered}");
    let named = changed(|d, _| d.image_id = 5000 - 3 * index(d.image_id) as i64);
    corrected(&named, "image_ids_numbered");
    let reversed = changed(|d, _| d.image_id = image_id(IMAGES - 1 - index(d.image_id)));
    corrected(&reversed, "image_ids_reversed");
    let permuted = changed(|d, _| d.image_id = image_id(index(d.image_id) * 13 % IMAGES));
    corrected(&permuted, "image_ids_permuted");
    let foreign = changed(|d, _| d.image_id = 1_000_000 + d.image_id * d.image_id % 1009);
    let found = first(&truth(), &foreign, "image_ids_permuted");
    assert!(found.measured.unwrap().on_unknown_images > 300);
    let mut half = detections(&truth(), 0.12);
    half.retain(|d| index(d.image_id) < IMAGES / 2);
    first(&truth(), &half, "images_without_detections");
}

#[test]
fn scores_and_numbers_of_detections_are_explained() {
    let truth = truth();
    corrected(&changed(|d, _| d.score = 1.0 - d.score), "scores_reversed");
    first(&truth, &changed(|d, _| d.score = 1.0), "scores_equal");
    let good = detections(&truth, 0.12);
    let mut random = Random(4);
    let copies = good.iter().flat_map(|d| {
        (0..5).map(|copy| CocoDetection { score: d.score - 0.01 * f64::from(copy), ..*d }).collect::<Vec<_>>()
    });
    corrected(&copies.collect::<Vec<_>>(), "duplicates");
    let confident: Vec<_> = good.iter().filter(|d| d.score >= 0.9).copied().collect();
    first(&truth, &confident, "score_threshold");
    let mut best = good.clone();
    best.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut seen = std::collections::HashSet::new();
    best.retain(|d| seen.insert(d.image_id));
    first(&truth, &best, "detection_limit");
    let mut alarms = good.clone();
    for image in &truth.images {
        for _ in 0..40 {
            let bbox = [500.0 * random.next(), 400.0 * random.next(), 60.0, 50.0];
            let category_id = CATEGORIES[(random.next() * 5.0) as usize].0;
            alarms.push(CocoDetection { image_id: image.id, category_id, bbox, score: 0.0 });
        }
    }
    alarms.iter_mut().for_each(|d| d.score = random.next());
    first(&truth, &alarms, "scores_do_not_separate");
    first(&truth, &detections(&truth, 0.9), "loose_boxes");
    let none = first(&truth, &[], "no_detections");
    assert!(none.measured.unwrap().ap.iter().all(|at| at.with_classes == 0.0));
}

#[test]
fn annotations_are_explained() {
    let good = detections(&truth(), 0.12);
    let mut none = truth();
    none.annotations.clear();
    let found = first(&none, &good, "no_objects");
    assert!(found.measured.is_none() && found.causes[0].strength == 1.0);
    let mut crowds = truth();
    crowds.annotations.iter_mut().for_each(|a| a.iscrowd = true);
    first(&crowds, &good, "crowd_objects");
    let mut unlisted = truth();
    unlisted.annotations.iter_mut().for_each(|a| a.category_id += 50);
    first(&unlisted, &good, "unlisted_annotations");
    let mut twice = truth();
    let again = twice.annotations.clone();
    twice.annotations.extend(again);
    first(&twice, &good, "duplicate_annotations");
}

#[test]
fn several_mistakes_are_found_one_after_another() {
    // As a program writes it that numbers images and classes from 0 and has rows before columns.
    let found = changed(|d, [width, height]| {
        let [x, y, w, h] = d.bbox;
        d.bbox = [y / height, x / width, (y + h) / height, (x + w) / width];
        d.category_id = CATEGORIES.iter().position(|c| c.0 == d.category_id).unwrap() as i64;
    });
    let found = explain(&truth(), &found).unwrap();
    let causes: Vec<&str> = found.causes.iter().take(2).map(|check| check.cause).collect();
    assert!(causes.contains(&"box_fractions") && causes.contains(&"category_ids_shifted"), "{}", found.list());
}
