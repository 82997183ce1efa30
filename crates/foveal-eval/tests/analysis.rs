//! Comparison of the analysis with tidecv and with numpy over pycocotools: fixtures of scripts/reference/analysis.py.

use std::fs;
use std::path::Path;

use foveal_coco::{CocoDataset, CocoDetection, results_from_bytes};
use foveal_eval::{Analyzer, ClassColumn, Interval, SizeBand, ThresholdRule, evaluate, sort_classes};
use serde_json::{Value, json};

/// Both sides compute in f64; they differ in the order of summation and in the tiny number that pycocotools adds to the
/// divisor of precision.
const TOLERANCE: f64 = 1e-9;

struct Case {
    name: String,
    truth: CocoDataset,
    detections: Vec<CocoDetection>,
    all: Value,
}

fn results(value: &Value) -> Vec<CocoDetection> {
    results_from_bytes(value.to_string().as_bytes(), Path::new("detections")).unwrap()
}

fn cases_of(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    let all: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let case = |all: Value| Case {
        name: all["name"].as_str().unwrap().to_owned(),
        truth: CocoDataset::from_bytes(all["truth"].to_string().as_bytes(), Path::new("truth")).unwrap(),
        detections: results(&all["detections"]),
        all,
    };
    all.into_iter().map(case).collect()
}

fn cases() -> Vec<Case> {
    cases_of("analysis.json")
}

fn bands(case: &Case) -> Vec<SizeBand> {
    let sides: Vec<f64> = case.all["sides"].as_array().unwrap().iter().map(|side| side.as_f64().unwrap()).collect();
    SizeBand::between(&sides)
}

/// Compares every value of `expected` with the value at the same place in `actual`.
#[track_caller]
fn assert_same(place: &str, actual: &Value, expected: &Value) {
    match expected {
        Value::Object(expected) => {
            expected.iter().for_each(|(key, value)| assert_same(&format!("{place}.{key}"), &actual[key], value));
        }
        Value::Array(expected) => {
            let actual = actual.as_array().unwrap_or_else(|| panic!("{place}: {actual}"));
            assert_eq!(actual.len(), expected.len(), "{place}");
            for (i, (actual, expected)) in actual.iter().zip(expected).enumerate() {
                assert_same(&format!("{place}[{i}]"), actual, expected);
            }
        }
        Value::Number(expected) => {
            let (actual, expected) = (actual.as_f64().unwrap_or(f64::NAN), expected.as_f64().unwrap());
            assert!((actual - expected).abs() <= TOLERANCE, "{place}: {actual}, expected {expected}");
        }
        _ => assert_eq!(actual, expected, "{place}"),
    }
}

/// The entries in an order that does not depend on how they were found.
fn sorted(list: &Value) -> Value {
    let mut list = list.as_array().unwrap().clone();
    list.sort_by_key(|entry| {
        let keys = ["kind", "image_id", "annotation_id", "truth", "detected", "detected_category_id", "score"];
        keys.map(|key| format!("{}", entry[key])).join(" ")
    });
    Value::Array(list)
}

#[test]
fn every_number_equals_that_of_the_reference() {
    let cases = cases();
    assert!(cases.len() >= 3);
    for case in cases {
        let analyzer = Analyzer::new(&case.truth, &case.detections, &bands(&case)).unwrap();
        let analysis = json!(analyzer.analysis());
        let mut expected = case.all["expected"].clone();
        let table = expected["classes"].as_array_mut().unwrap();
        let precise: Vec<Value> = table.iter_mut().map(|row| row["precise"].take()).collect();
        table.iter_mut().for_each(|row| _ = row.as_object_mut().unwrap().remove("precise"));
        for key in ["classes", "sizes", "objects_per_image", "calibration", "curves"] {
            assert!(!expected[key].is_null());
            assert_same(&format!("{} {key}", case.name), &analysis[key], &expected[key]);
        }
        assert_same(
            &format!("{} confusion", case.name),
            &sorted(&analysis["confusion"]["cells"]),
            &sorted(&expected["confusion"]),
        );
        assert_same(
            &format!("{} label errors", case.name),
            &sorted(&analysis["label_errors"]),
            &sorted(&expected["label_errors"]),
        );
        let rule = ThresholdRule::Precision(case.all["precision"].as_f64().unwrap());
        for ((id, point), expected) in analyzer.thresholds(rule).iter().zip(&precise) {
            assert_same(&format!("{} precision of {id}", case.name), &json!(point), expected);
        }
    }
}

#[test]
fn kinds_of_errors_equal_those_of_tidecv() {
    let mut compared = 0;
    for case in cases() {
        let Some(expected) = case.all["expected"]["tide"].as_object() else { continue };
        let mut expected = expected.clone();
        expected.remove("on_crowd");
        let analysis = Analyzer::new(&case.truth, &case.detections, &[]).unwrap().analysis();
        assert_same(&format!("{} tide", case.name), &json!(analysis.tide), &Value::Object(expected));
        assert!(analysis.tide.errors().iter().all(|(_, error)| error.count > 0), "{}", case.name);
        compared += 1;
    }
    assert_eq!(compared, 2);
}

#[test]
fn parts_agree_with_the_metrics() {
    for case in cases().into_iter().chain(cases_of("coco_eval.json")) {
        let metrics = evaluate(&case.truth, &case.detections).unwrap();
        let analysis = Analyzer::new(&case.truth, &case.detections, &[]).unwrap().analysis();
        let close = |what: &str, found: Option<f64>, expected: f64| {
            let found = found.unwrap_or(-1.0);
            assert!((found - expected).abs() <= TOLERANCE, "{} {what}: {found}, expected {expected}", case.name);
        };
        if metrics.is_defined() {
            close("AP50 of TIDE", Some(analysis.tide.ap50), metrics.ap50);
        }
        let sizes = [
            (metrics.ap_small, metrics.ar_small),
            (metrics.ap_medium, metrics.ar_medium),
            (metrics.ap_large, metrics.ar_large),
        ];
        for (row, (ap, ar)) in analysis.sizes.iter().zip(sizes) {
            close(&row.band.label, row.ap, ap);
            close(&row.band.label, row.ar, ar);
        }
        for (row, expected) in analysis.classes.iter().zip(&metrics.per_category) {
            assert_eq!((row.id, &row.name, row.objects), (expected.id, &expected.name, expected.objects));
            close("AP of a class", row.ap, expected.ap);
            close("AP50 of a class", row.ap50, expected.ap50);
        }
        let objects: usize = metrics.per_category.iter().map(|class| class.objects).sum();
        let in_matrix: usize =
            analysis.confusion.cells.iter().filter(|cell| cell.truth.is_some()).map(|cell| cell.count).sum();
        assert_eq!(in_matrix, objects, "{}", case.name);
    }
}

#[test]
fn intervals_equal_those_of_another_bootstrap() {
    const DRAWS: usize = 2000;
    /// Of several dozen ends, none should be further away than this many standard deviations.
    const DEVIATIONS: f64 = 4.5;
    let case = cases().into_iter().find(|case| case.name == "plain").unwrap();
    let other = results(&case.all["other"]);
    let of = |detections: &[CocoDetection]| {
        let analyzer = Analyzer::new(&case.truth, detections, &[]).unwrap();
        let images = analyzer.images();
        analyzer.resamples(DRAWS, move |sample| draw(sample as u64, images))
    };
    let (first, second) = (of(&case.detections), of(&other));
    let (own, differences) = (first.intervals(), second.minus(&first));
    let reference = &case.all["expected"]["bootstrap"];
    let draws = reference["draws"].as_f64().unwrap();
    let rows = reference["metrics"].as_array().unwrap();
    assert!(rows.len() > 20);
    for row in rows {
        let (category, key) = (row["category"].as_i64(), row["key"].as_str().unwrap());
        let at = first.names().iter().position(|name| name.category == category && name.key == key).unwrap();
        let place = format!("{key} of {category:?}");
        let compare = |found: Interval, value: &str, ends: [&str; 2], spread: &str| {
            assert_same(&place, &json!(found.value), &row[value]);
            for (i, (found, expected)) in [found.low, found.high].into_iter().zip(ends).enumerate() {
                let (found, expected) = (found.unwrap(), row[expected].as_f64().unwrap());
                let deviation = row[spread][i].as_f64().unwrap() * (1.0 / draws + 1.0 / DRAWS as f64).sqrt();
                let far = (found - expected).abs();
                assert!(far <= DEVIATIONS * deviation + 1e-9, "{place} {value} {i}: {found}, expected {expected}");
            }
        };
        compare(own[at], "value", ["low", "high"], "spread");
        compare(differences[at], "difference", ["difference_low", "difference_high"], "difference_spread");
    }
    let json = first.to_json(&own);
    assert_eq!(json["AP"]["value"], json!(own[0].value));
    assert_eq!(json["per_category"]["7"]["AP"]["low"], json!(own[first.names().len() - 4].low));
}

/// How often each of `images` images is drawn; a linear congruential generator (Knuth's MMIX).
fn draw(sample: u64, images: usize) -> Vec<u32> {
    let mut state = sample.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(12345);
    let mut counts = vec![0; images];
    for step in 0..images + 4 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if step >= 4 {
            counts[(state >> 33) as usize % images] += 1;
        }
    }
    counts
}

#[test]
fn resamples_have_coco_metrics_of_every_kind() {
    for case in cases_of("coco_eval.json") {
        let metrics = evaluate(&case.truth, &case.detections).unwrap();
        let analyzer = Analyzer::new(&case.truth, &case.detections, &[]).unwrap();
        let resamples = analyzer.resamples(1, |_| vec![1; analyzer.images()]);
        let expected = metrics.to_json();
        for (name, interval) in resamples.names().iter().zip(resamples.intervals()) {
            let Some(expected) = expected.get(&name.key).filter(|_| name.category.is_none()) else { continue };
            let (found, expected) = (interval.value.unwrap_or(-1.0), expected.as_f64().unwrap());
            assert!((found - expected).abs() <= TOLERANCE, "{} {}: {found}, expected {expected}", case.name, name.key);
            assert_eq!(interval.low, interval.value, "{} {}", case.name, name.key);
        }
    }
}

#[test]
fn tables_are_sorted_by_any_column() {
    let case = cases().into_iter().find(|case| case.name == "ties").unwrap();
    let mut rows = Analyzer::new(&case.truth, &case.detections, &[]).unwrap().analysis().classes;
    let ids = |rows: &[foveal_eval::ClassRow]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    sort_classes(&mut rows, ClassColumn::Ap);
    // AP is 0.349 for class 1 and 0.293 for class 2; class 3 has no objects.
    assert_eq!(ids(&rows), [1, 2, 3]);
    rows.reverse();
    sort_classes(&mut rows, ClassColumn::F1);
    assert_eq!(ids(&rows), [1, 2, 3]);
    rows.reverse();
    sort_classes(&mut rows, ClassColumn::Objects);
    assert_eq!(ids(&rows), [1, 2, 3]);
    rows.reverse();
    sort_classes(&mut rows, ClassColumn::Name);
    assert_eq!(ids(&rows), [1, 2, 3]);
}
