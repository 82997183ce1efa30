//! Metrics of a ground truth without objects: undefined, said in words, and never the best.

use serde_json::{Value, json};

use crate::support::{Run, Workplace};

/// The validation annotations after a change of each of their objects; `None` removes it.
fn change_objects(place: &Workplace, change: impl Fn(Value) -> Option<Value>) {
    let mut val = place.json("val.json");
    let objects = val["annotations"].as_array().unwrap().iter().cloned().filter_map(change).collect();
    val["annotations"] = Value::Array(objects);
    place.write("val.json", val.to_string());
}

fn says_undefined(run: &Run) {
    assert!(run.stderr.contains("undefined"), "{}", run.stderr);
    assert!(!run.stderr.contains("AP -1") && !run.stdout.contains("-1.000"), "{}{}", run.stderr, run.stdout);
}

#[test]
fn an_undefined_ap_makes_no_best_checkpoint() {
    let place = Workplace::new();
    change_objects(&place, |_| None);
    let trained = place.run(&["train", "tiny.toml", "--out", "run", "--set", "train.epochs=2"]).succeeds();
    says_undefined(&trained);
    assert!(!trained.stderr.contains("best AP") && trained.stderr.contains("no best checkpoint"), "{}", trained.stderr);
    assert!(!place.path("run/checkpoints/best.safetensors").exists());
    let evaluated = place.json("run/state/evaluated.json");
    assert_eq!((&evaluated["epoch"], &evaluated["best"]), (&json!(2), &Value::Null));
    let evaluated = place.run(&["eval", "run/checkpoints/last.safetensors", "--json", "metrics.json"]).succeeds();
    says_undefined(&evaluated);
    // Other programs read COCO's own value.
    assert_eq!(place.json("metrics.json")["AP"], json!(-1.0));
}

#[test]
fn crowd_regions_alone_leave_the_metrics_undefined() {
    let place = Workplace::new();
    change_objects(&place, |mut object| {
        object["iscrowd"] = json!(1);
        Some(object)
    });
    let trained = place.run(&["train", "tiny.toml", "--out", "run"]).succeeds();
    says_undefined(&trained);
    assert!(!place.path("run/checkpoints/best.safetensors").exists());
}

#[test]
fn a_score_without_objects_is_undefined_and_one_without_some_sizes_is_not() {
    let place = Workplace::new();
    place.write("results.json", r#"[{"image_id": 101, "category_id": 3, "bbox": [1, 1, 9, 9], "score": 0.5}]"#);
    let score = ["score", "--annotations", "val.json", "--detections", "results.json"];
    // All objects are small: COCO's -1 stands for the metrics of the other sizes only.
    let some = place.run(&score).succeeds();
    assert!(some.stdout.contains("-1.000") && !some.stderr.contains("undefined"), "{}{}", some.stderr, some.stdout);
    change_objects(&place, |_| None);
    says_undefined(&place.run(&score).succeeds());
}
