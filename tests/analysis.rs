//! The analysis of `foveal eval` and `foveal score`, and score thresholds of single classes.

use serde_json::{Value, json};

use crate::support::{IMAGES, Workplace, keys};

const CHECKPOINT: &str = "run/checkpoints/last.safetensors";
/// The keys of the analysis in JSON, after those of the metrics.
const KEYS: [&str; 7] = ["classes", "sizes", "objects_per_image", "tide", "confusion", "calibration", "curves"];

/// Detections of all objects of the validation set but the first, each moved by `shift` pixels, and a false one. The
/// scores are from 0.8 to 0.95, times `scale`.
fn results(place: &Workplace, shift: f64, scale: f64) -> String {
    let truth = place.json("val.json");
    let objects = truth["annotations"].as_array().unwrap();
    let mut found: Vec<Value> = objects[1..]
        .iter()
        .enumerate()
        .map(|(i, object)| {
            let bbox: Vec<f64> = object["bbox"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            let bbox = [bbox[0] + shift, bbox[1], bbox[2], bbox[3]];
            let score = scale * (0.9 - 0.01 * i as f64);
            json!({"image_id": object["image_id"], "category_id": object["category_id"], "bbox": bbox, "score": score})
        })
        .collect();
    found.push(json!({"image_id": 101, "category_id": 3, "bbox": [60, 60, 4, 4], "score": scale * 0.95}));
    Value::Array(found).to_string()
}

#[test]
fn score_says_where_detections_are_wrong_and_compares_them() {
    let place = Workplace::new();
    place.write("good.json", results(&place, 0.0, 1.0));
    place.write("moved.json", results(&place, 3.0, 1.0));
    let score = ["score", "--annotations", "val.json", "--detections", "good.json"];
    let plain = place.run(&[&score[..], &["--json", "-"]].concat()).succeeds().json();
    let options = ["--label-errors", "--size-bands", "20,24", "--compare", "moved.json", "--intervals", "200"];
    let all = [&score[..], &options, &["--thresholds", "best-f1", "--json", "out.json"]].concat();
    let shown = place.run(&all).succeeds().stdout;
    for part in ["precision", "TIDE", "20 to 24", "no object", "never found", "difference to the other", "best-f1"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let full = place.json("out.json");
    let expected = [keys(&plain), KEYS.to_vec(), vec!["label_errors", "intervals", "compare", "thresholds"]].concat();
    assert_eq!(keys(&full), expected);
    assert_eq!(full["per_category"], plain["per_category"]);
    // One object is missed and one detection is on no object.
    assert_eq!((&full["tide"]["missed"]["count"], &full["tide"]["background"]["count"]), (&json!(1), &json!(1)));
    let kinds: Vec<&str> =
        full["label_errors"].as_array().unwrap().iter().map(|error| error["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["no_object", "never_found"]);
    let crops = ["--label-errors", "--crops", "crops", "--images", "images", "--json", "-"];
    let cropped = place.run(&[&score[..], &crops].concat()).succeeds().json();
    assert_eq!(cropped["label_errors"][0]["crop"], "no_object-001.jpg");
    assert!(image::open(place.path("crops/never_found-001.jpg")).unwrap().width() > 48);
    // A crop never replaces an image of the data set.
    std::fs::copy(place.path("crops/never_found-001.jpg"), place.path("images/never_found-001.jpg")).unwrap();
    let onto = ["--label-errors", "--crops", "images", "--images", "images"];
    place.run(&[&score[..], &onto].concat()).fails(2, &["--crops", "never_found-001.jpg"]);
    let metric = &full["intervals"]["metrics"]["AP"];
    assert!((metric["value"].as_f64().unwrap() - plain["AP"].as_f64().unwrap()).abs() < 1e-12, "{metric}");
    assert!(metric["low"].as_f64() < metric["high"].as_f64(), "{metric}");
    let compared = &full["compare"];
    let difference = plain["AP"].as_f64().unwrap() - compared["other"]["AP"].as_f64().unwrap();
    assert!((compared["difference"]["AP"]["value"].as_f64().unwrap() - difference).abs() < 1e-12);
    // Moved boxes are worse on every resample.
    assert!(compared["difference"]["AP"]["low"].as_f64().unwrap() > 0.0, "{compared}");
    // The same seed gives the same numbers.
    let again = place.run(&[&score[..], &["--intervals", "200", "--json", "-"]].concat()).succeeds().json();
    assert_eq!(again["intervals"]["metrics"]["AP"], *metric);
}

#[test]
fn thresholds_are_saved_and_used_by_predict() {
    let place = Workplace::new();
    place.train();
    let predicted = |checkpoint: &str, arguments: &[&str]| -> Vec<Value> {
        let all = [&["predict", checkpoint, "images/101.png", "--json", "-"], arguments].concat();
        place.run(&all).succeeds().json()[0]["detections"].as_array().unwrap().clone()
    };
    // After one epoch the scores are near the prior of 0.01, far below the threshold of 0.05 that the checkpoint has.
    let all = predicted(CHECKPOINT, &["--score-threshold", "0"]);
    let scores: Vec<f64> = all.iter().map(|d| d["score"].as_f64().unwrap()).collect();
    let middle = scores[scores.len() / 2];
    // The lowest scores of the two classes are 0.80 and 0.81 times the scale.
    place.write("low.json", results(&place, 0.0, middle / 0.805));
    let score = ["score", "--annotations", "val.json", "--detections", "low.json", "--thresholds", "best-f1"];
    let save = ["--checkpoint", CHECKPOINT, "--save", "own.safetensors", "--json", "-"];
    let chosen = place.run(&[&score[..], &save].concat()).succeeds().json();
    let threshold = |id: &Value| chosen["thresholds"]["per_category"][id.to_string()]["threshold"].as_f64().unwrap();
    let expected: Vec<&Value> =
        all.iter().filter(|d| d["score"].as_f64().unwrap() >= threshold(&d["category_id"])).collect();
    let found = predicted("own.safetensors", &[]);
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    assert!(!found.is_empty() && found.len() < all.len(), "{} of {}", found.len(), all.len());
    // An explicit threshold replaces them, and eval does not use them.
    assert_eq!(predicted("own.safetensors", &["--score-threshold", "0"]), all);
    let eval = |checkpoint: &str| {
        let data = ["--annotations", "val.json", "--images", "images", "--set", "eval.score_threshold=0.0"];
        place.run(&[&["eval", checkpoint, "--json", "-"], &data[..]].concat()).succeeds().json()
    };
    assert_eq!(eval("own.safetensors"), eval(CHECKPOINT));
    // The rule is the best F1 of detections of which only the first is wrong, so that all scores are kept.
    assert_eq!(chosen["thresholds"]["rule"], "best-f1");
}

#[test]
fn checkpoints_and_runs_are_compared() {
    let place = Workplace::new();
    place.train();
    place.run(&["train", "tiny.toml", "--out", "longer", "--set", "train.epochs=2"]).succeeds();
    let json = place.run(&["eval", CHECKPOINT, "--compare", "longer", "--intervals", "50", "--json", "-"]).succeeds();
    let json = json.json();
    assert!(json["images"] == IMAGES && json["compare"]["difference"]["AP"]["value"].is_number(), "{json}");
    place.write("results.json", results(&place, 0.0, 1.0));
    let score =
        ["score", "--annotations", "val.json", "--detections", "results.json", "--intervals", "50", "--compare"];
    place.run(&[&score[..], &[CHECKPOINT]].concat()).fails(1, &["--images"]);
    place.run(&[&score[..], &[CHECKPOINT, "--images", "images"]].concat()).succeeds();
    place.run(&[&score[..], &["images"]].concat()).fails(1, &["--compare images", "run directory"]);
}

#[test]
fn wrong_values_are_refused() {
    let place = Workplace::new();
    place.write("results.json", results(&place, 0.0, 1.0));
    let score = ["score", "--annotations", "val.json", "--detections", "results.json"];
    let refused = |options: &[&str], words: &[&str]| place.run(&[&score[..], options].concat()).fails(2, words);
    refused(&["--size-bands", "32,16"], &["--size-bands", "ascending"]);
    refused(&["--thresholds", "precision=2"], &["precision=P", "precision=2"]);
    refused(&["--thresholds", "best-f1", "--save", "x.safetensors"], &["--save", "--checkpoint"]);
    refused(&["--save", "x.safetensors"], &["--thresholds"]);
    refused(&["--intervals", "3"], &["--intervals"]);
}
