//! Metrics of resampled images against the full evaluation of a data set that contains images several times.

use std::fs;
use std::path::Path;

use foveal_coco::{Annotation, CocoDataset, CocoDetection, Image, results_from_bytes};
use foveal_eval::{Matched, Metrics, Resampled, evaluate};
use serde_json::Value;

/// The two computations differ only in the order of summation.
const TOLERANCE: f64 = 1e-12;

fn cases() -> Vec<(String, CocoDataset, Vec<CocoDetection>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/coco_eval.json");
    let all: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let cases = all.into_iter().map(|case| {
        let truth = CocoDataset::from_bytes(case["truth"].to_string().as_bytes(), Path::new("truth")).unwrap();
        let detections =
            results_from_bytes(case["detections"].to_string().as_bytes(), Path::new("detections")).unwrap();
        (case["name"].as_str().unwrap().to_owned(), truth, detections)
    });
    cases.collect()
}

#[track_caller]
fn assert_equal(name: &str, found: &Resampled, expected: &Metrics) {
    let same = |what: &str, found: Option<f64>, expected: f64| {
        assert!((found.unwrap_or(-1.0) - expected).abs() <= TOLERANCE, "{name} {what}: {found:?}, expected {expected}");
    };
    same("AP", found.ap, expected.ap);
    same("AP50", found.ap50, expected.ap50);
    same("AR100", found.ar100, expected.ar100);
    assert_eq!(found.per_category.len(), expected.per_category.len(), "{name}");
    for (found, expected) in found.per_category.iter().zip(&expected.per_category) {
        same(&expected.name, *found, expected.ap);
    }
}

/// The data set that contains image `i` of `images` `counts[i]` times, with new ids in the same order.
fn repeated(
    truth: &CocoDataset,
    detections: &[CocoDetection],
    images: &[i64],
    counts: &[u32],
) -> (CocoDataset, Vec<CocoDetection>) {
    let mut set = CocoDataset { categories: truth.categories.clone(), ..CocoDataset::default() };
    let mut found = Vec::new();
    for (index, (&image, &count)) in images.iter().zip(counts).enumerate() {
        for copy in 0..i64::from(count) {
            let image_id = 100 * index as i64 + copy;
            set.images.push(Image { id: image_id, ..Image::default() });
            for annotation in truth.annotations.iter().filter(|a| a.image_id == image) {
                let id = set.annotations.len() as i64 + 1;
                set.annotations.push(Annotation { id, image_id, ..annotation.clone() });
            }
            found.extend(detections.iter().filter(|d| d.image_id == image).map(|d| CocoDetection { image_id, ..*d }));
        }
    }
    (set, found)
}

#[test]
fn every_image_once_gives_the_metrics_of_the_set() {
    let cases = cases();
    assert!(cases.len() >= 8);
    for (name, truth, detections) in cases {
        let matched = Matched::new(&truth, &detections).unwrap();
        let found = matched.metrics(&vec![1; matched.images().len()]);
        assert_equal(&name, &found, &evaluate(&truth, &detections).unwrap());
        let mut ids: Vec<i64> = truth.categories.iter().map(|c| c.id).collect();
        ids.sort_unstable();
        assert_eq!(matched.categories(), ids, "{name}");
    }
}

#[test]
fn counts_stand_for_copies() {
    for (name, truth, detections) in cases() {
        let matched = Matched::new(&truth, &detections).unwrap();
        for round in 0..5u32 {
            let counts: Vec<u32> =
                (0..matched.images().len() as u32).map(|i| (i * 7 + round * 5 + i * i) % 4).collect();
            let (set, found) = repeated(&truth, &detections, matched.images(), &counts);
            let expected = evaluate(&set, &found).unwrap();
            assert_equal(&format!("{name}, round {round}"), &matched.metrics(&counts), &expected);
        }
    }
}

#[test]
fn nothing_drawn_is_undefined() {
    let (_, truth, detections) = cases().swap_remove(0);
    let matched = Matched::new(&truth, &detections).unwrap();
    let none = matched.metrics(&vec![0; matched.images().len()]);
    assert_eq!((none.ap, none.ar100), (None, None));
}
