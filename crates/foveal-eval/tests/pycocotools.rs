//! Comparison with pycocotools: fixtures of scripts/reference/coco_eval.py, and COCO's own example.

use std::{env, fs, path::Path};

use foveal_coco::{CocoDataset, CocoDetection, results_from_bytes};
use foveal_eval::{evaluate, score, score_files};
use serde_json::Value;

/// Both compute in f64; only the order of summation differs.
const TOLERANCE: f64 = 1e-9;
const KEYS: [&str; 12] = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];

struct Case {
    name: String,
    truth: CocoDataset,
    detections: Vec<CocoDetection>,
    /// The text of the annotation file and the results file.
    files: [String; 2],
    expected: Value,
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/coco_eval.json");
    let all: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let cases = all.into_iter().map(|case| {
        let files = [case["truth"].to_string(), case["detections"].to_string()];
        Case {
            name: case["name"].as_str().unwrap().to_owned(),
            truth: CocoDataset::from_bytes(files[0].as_bytes(), Path::new("truth")).unwrap(),
            detections: results_from_bytes(files[1].as_bytes(), Path::new("detections")).unwrap(),
            files,
            expected: case["expected"].clone(),
        }
    });
    cases.collect()
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|c| c.name == name).unwrap()
}

fn assert_close(name: &str, actual: &Value, expected: &Value) {
    let (a, e) = (actual.as_f64().unwrap(), expected.as_f64().unwrap_or(-1.0));
    assert!((a - e).abs() <= TOLERANCE, "{name}: {a}, expected {e}");
}

fn assert_equal(name: &str, actual: &Value, expected: &Value) {
    for key in KEYS {
        assert_close(&format!("{name} {key}"), &actual[key], &expected[key]);
    }
    let (actual, expected) = (&actual["per_category"], expected["per_category"].as_object().unwrap());
    assert_eq!(actual.as_object().unwrap().len(), expected.len(), "{name}");
    for (id, metrics) in expected {
        for key in ["AP", "AP50"] {
            assert_close(&format!("{name} class {id} {key}"), &actual[id][key], &metrics[key]);
        }
    }
}

#[test]
fn fixtures_in_memory_and_as_files() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["truth.json", "results.json"].map(|n| folder.path().join(n));
    let cases = cases();
    assert!(cases.len() >= 8);
    for case in cases {
        let metrics = evaluate(&case.truth, &case.detections).unwrap();
        assert_equal(&case.name, &metrics.to_json(), &case.expected);
        for (path, text) in paths.iter().zip(&case.files) {
            fs::write(path, text).unwrap();
        }
        let scored = score_files(&paths[0], &paths[1]).unwrap().scored;
        assert_eq!(scored.metrics, metrics, "{}", case.name);
        assert_eq!(scored.notes, [""; 0], "{}", case.name);
        // Without detections the metrics are zero, and a reason is given.
        assert_eq!(scored.near_zero.is_some(), case.name == "no_detections", "{}: {:?}", case.name, scored.near_zero);
    }
}

#[test]
fn objects_are_counted_without_crowds() {
    let case = case("crowds");
    let metrics = evaluate(&case.truth, &case.detections).unwrap();
    for class in metrics.per_category {
        let of_class = case.truth.annotations.iter().filter(|a| a.category_id == class.id);
        assert_eq!(class.objects, of_class.filter(|a| !a.iscrowd).count());
    }
}

#[test]
fn ids_do_not_matter() {
    for name in ["mixed", "ties"] {
        let mut case = case(name);
        let shift = |id: i64| id - 50;
        case.truth.images.iter_mut().for_each(|i| i.id = shift(i.id));
        for (id, a) in (0..).zip(&mut case.truth.annotations) {
            (a.id, a.image_id) = (id, shift(a.image_id));
        }
        case.detections.iter_mut().for_each(|d| d.image_id = shift(d.image_id));
        let scored = score(&case.truth, &case.detections).unwrap();
        assert_equal(name, &scored.metrics.to_json(), &case.expected);
        let [note] = &scored.notes[..] else { panic!("one note, not {:?}", scored.notes) };
        assert!(note.contains("id 0"), "{note}");

        case.truth.annotations.iter_mut().for_each(|a| a.id = 7);
        let scored = score(&case.truth, &case.detections).unwrap();
        assert_equal(name, &scored.metrics.to_json(), &case.expected);
        assert!(
            scored.notes[0].contains("annotations of the ground truth have the id of an earlier one"),
            "{:?}",
            scored.notes
        );
    }
}

#[test]
fn unknown_ids_are_as_in_pycocotools() {
    let mut case = case("mixed");
    let stray = CocoDetection { category_id: 555, score: 1.0, ..case.detections[0] };
    case.detections.insert(0, stray);
    case.truth.annotations.push(foveal_coco::Annotation {
        id: 5000,
        image_id: -1,
        ..case.truth.annotations[0].clone()
    });
    let scored = score(&case.truth, &case.detections).unwrap();
    assert_equal("with strays", &scored.metrics.to_json(), &case.expected);
    assert_eq!(scored.notes.len(), 2);
    assert!(scored.notes[0].contains("1 annotations"), "{:?}", scored.notes);
    assert!(scored.notes[1].contains("1 detections") && scored.notes[1].contains("555"), "{:?}", scored.notes);

    case.detections[3].image_id = 123;
    let message = evaluate(&case.truth, &case.detections).unwrap_err().to_string();
    assert!(message.contains("detection 3 has image_id 123, which is not among the 14 images"), "{message}");
}

#[test]
fn numbers_that_are_none_are_refused() {
    let mut case = case("mixed");
    case.detections[2].score = f64::NAN;
    let message = evaluate(&case.truth, &case.detections).unwrap_err().to_string();
    assert!(message.contains("detection 2"), "{message}");
    case.truth.annotations[1].bbox[2] = f64::NAN;
    let message = evaluate(&case.truth, &[]).unwrap_err().to_string();
    assert!(message.contains(&format!("annotation {}", case.truth.annotations[1].id)), "{message}");
}

#[test]
fn nothing_at_all_is_undefined() {
    let metrics = evaluate(&CocoDataset::default(), &[]).unwrap();
    assert_eq!((metrics.ap, metrics.ar_large, metrics.per_category.len()), (-1.0, -1.0, 0));
    assert_eq!(metrics.table().lines().count(), 12);
    assert!(metrics.table().lines().all(|line| line.ends_with("= undefined (no objects)")), "{}", metrics.table());
}

#[test]
fn files_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let [truth, results] = ["truth.json", "results.json"].map(|n| folder.path().join(n));
    let case = case("mixed");
    fs::write(&truth, &case.files[0]).unwrap();
    fs::write(&results, r#"[{"image_id": 4242, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]"#).unwrap();
    let message = score_files(&truth, &results).unwrap_err().to_string();
    for part in ["truth.json", "results.json", "4242"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(score_files(&results, &results).unwrap_err().to_string().contains("COCO object"));
    assert!(score_files(&truth, &truth).unwrap_err().to_string().contains("list of detections"));
    fs::write(&truth, r#"{"images": [], "categories": []}"#).unwrap();
    let message = score_files(&truth, &results).unwrap_err().to_string();
    assert!(message.contains("truth.json has no `annotations`"), "{message}");
}

/// COCO's own example: the first 100 images of val2014 and the published artificial detections.
/// Published: cocoapi, PythonAPI/pycocoEvalDemo.ipynb.
#[test]
#[ignore = "needs FOVEAL_SHARED"]
fn published_val2014_metrics() {
    const PUBLISHED: [f64; 12] = [0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564];
    let shared = env::var("FOVEAL_SHARED").expect("FOVEAL_SHARED names the folder of shared data");
    let folder = Path::new(&shared).join("data/cocoapi");
    let found = score_files(
        &folder.join("instances_val2014_100.json"),
        &folder.join("instances_val2014_fakebbox100_results.json"),
    )
    .unwrap();
    let json = found.scored.metrics.to_json();
    for (key, published) in KEYS.iter().zip(PUBLISHED) {
        let metric = json[key].as_f64().unwrap();
        assert_eq!(format!("{metric:.3}"), format!("{published:.3}"), "{key}");
    }
    let mut expected: Value =
        serde_json::from_slice(&fs::read(folder.join("expected_val2014_fakebbox100.json")).unwrap()).unwrap();
    let mut all = expected["stats"].take();
    all["per_category"] = expected["per_category"].take();
    assert_equal("val2014", &json, &all);
}
