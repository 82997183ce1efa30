//! Metrics of resampled images against the full evaluation of a data set that contains images several times.

use std::fs;
use std::path::Path;

use foveal_coco::{Annotation, CocoDataset, CocoDetection, Image, results_from_bytes};
use foveal_eval::{ClassValues, Matched, Metrics, Resampled, SizeBand, evaluate};
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

/// Compares the means over the categories, of all sizes and of COCO's bands, with the metrics.
#[track_caller]
fn assert_values(name: &str, values: &[Vec<Option<ClassValues>>], expected: &Metrics) {
    let same = |what: &str, size: usize, of: fn(&ClassValues) -> f64, expected: f64| {
        let each: Vec<f64> = values[size].iter().flatten().map(of).collect();
        let found = if each.is_empty() { -1.0 } else { each.iter().sum::<f64>() / each.len() as f64 };
        assert!((found - expected).abs() <= TOLERANCE, "{name} {what}: {found}, expected {expected}");
    };
    same("AP75", 0, |c| c.ap75, expected.ap75);
    same("AR1", 0, |c| c.ar[0], expected.ar1);
    same("AR10", 0, |c| c.ar[1], expected.ar10);
    for (size, ap) in [expected.ap_small, expected.ap_medium, expected.ap_large].into_iter().enumerate() {
        same("AP of a size", size + 1, |c| c.ap, ap);
    }
    for (size, ar) in [expected.ar_small, expected.ar_medium, expected.ar_large].into_iter().enumerate() {
        same("AR of a size", size + 1, |c| c.ar[2], ar);
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
        let sized = Matched::with_sizes(&truth, &detections, &SizeBand::coco()).unwrap();
        for round in 0..5u32 {
            let counts: Vec<u32> =
                (0..matched.images().len() as u32).map(|i| (i * 7 + round * 5 + i * i) % 4).collect();
            let (set, found) = repeated(&truth, &detections, matched.images(), &counts);
            let expected = evaluate(&set, &found).unwrap();
            let name = format!("{name}, round {round}");
            assert_equal(&name, &matched.metrics(&counts), &expected);
            assert_values(&name, &sized.values(&counts), &expected);
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
