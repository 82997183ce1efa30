//! `--explain` of `foveal eval` and `foveal score`: planted causes are ranked first.

use serde_json::{Value, json};

use crate::support::Workplace;

/// The keys of the causes in the JSON of an explanation, the strongest first.
#[track_caller]
fn causes(json: &Value) -> Vec<&str> {
    let list = json["explain"]["causes"].as_array().unwrap_or_else(|| panic!("{json}"));
    list.iter().map(|check| check["cause"].as_str().unwrap()).collect()
}

/// Evaluates the folder `run` with `--explain`.
fn explained(place: &Workplace) -> Value {
    place.run(&["eval", "run", "--explain", "--json", "-"]).succeeds().json()
}

fn train(place: &Workplace, set: &str) {
    place.run(&["train", "tiny.toml", "--out", "run", "--set", set]).succeeds();
}

/// Changes the annotations of the validation set.
fn change(place: &Workplace, change: impl Fn(&mut Value)) {
    let mut truth = place.json("val.json");
    change(&mut truth);
    place.write("val.json", truth.to_string());
}

#[test]
fn a_learning_rate_near_zero_is_named_and_the_run_directory_stands_for_its_checkpoint() {
    let place = Workplace::new();
    train(&place, "train.lr=1e-12");
    let found = explained(&place);
    assert_eq!(causes(&found)[0], "learning_rate", "{found}");
    let first = &found["explain"]["causes"][0];
    assert!(first["strength"] == 1.0 && first["advice"].as_str().unwrap().contains("train.lr"), "{first}");
    assert_eq!(found["explain"]["measured"]["ap"].as_array().unwrap().len(), 5);
    let best = ["best", "last"].map(|name| format!("run/checkpoints/{name}.safetensors"));
    let best = best.iter().find(|path| place.path(path).is_file()).unwrap();
    let plain = place.run(&["eval", best, "--json", "-"]).succeeds().json();
    assert!(plain.get("explain").is_none() && plain["AP"] == found["AP"] && plain["losses"] == found["losses"]);
    let shown = place.run(&["eval", "run", "--explain"]).succeeds().stdout;
    assert!(shown.contains(" 1. learning_rate (1.00): ") && shown.contains("AP at IoU"), "{shown}");
    place.run(&["eval", "images"]).fails(1, &["images", "run directory"]);
}

#[test]
fn a_misspelt_class_and_missing_objects_are_named() {
    let place = Workplace::new();
    place.train();
    let plain = place.run(&["eval", "run", "--json", "-"]).succeeds().json();
    change(&place, |truth| truth["categories"][0]["name"] = json!("cervena"));
    place.run(&["eval", "run"]).fails(1, &["cervena"]);
    let found = explained(&place);
    assert_eq!(causes(&found)[0], "categories_differ", "{found}");
    let measured = found["explain"]["causes"][0]["measured"].as_str().unwrap();
    assert!(measured.contains("3 cervena is nearest to 3 červená"), "{measured}");
    // The metrics are those with the categories that correspond.
    assert_eq!((&found["AP"], &found["losses"]), (&plain["AP"], &plain["losses"]));
    change(&place, |truth| {
        truth["categories"][0]["name"] = json!("červená");
        truth["annotations"] = json!([]);
    });
    let found = explained(&place);
    assert!(causes(&found)[0] == "no_objects" && found["AP"] == -1.0, "{found}");
}

/// The file names of the validation images become those of the training images, which have other objects.
#[test]
fn a_validation_set_that_reads_the_training_images_is_named() {
    let place = Workplace::new();
    place.train();
    let names: Vec<Value> =
        place.json("train.json")["images"].as_array().unwrap().iter().map(|i| i["file_name"].clone()).collect();
    change(&place, |truth| {
        for (image, name) in truth["images"].as_array_mut().unwrap().iter_mut().zip(&names) {
            image["file_name"] = name.clone();
        }
        for object in truth["annotations"].as_array_mut().unwrap() {
            object["bbox"] = json!([2, 2, 9, 9]);
        }
    });
    let found = explained(&place);
    assert_eq!(causes(&found)[0], "images_of_training", "{found}");
    let measured = found["explain"]["causes"][0]["measured"].as_str().unwrap();
    let expected = "6 of 6 validation images are files of the training set, 6 of them with other objects";
    assert_eq!(measured, expected);

    // Files of the same names in a folder of their own are other images, and the training set itself has its own objects.
    std::fs::create_dir(place.path("val")).unwrap();
    for name in names.iter().map(|name| name.as_str().unwrap()) {
        std::fs::copy(place.path("images").join(name), place.path("val").join(name)).unwrap();
    }
    for set in ["data.val.images=val", "data.val.annotations=train.json"] {
        let found = place.run(&["eval", "run", "--explain", "--json", "-", "--set", set]).succeeds().json();
        assert!(!causes(&found).contains(&"images_of_training"), "{set}: {found}");
    }
}

#[test]
fn a_high_score_threshold_is_named() {
    let place = Workplace::new();
    train(&place, "eval.score_threshold=0.9");
    let found = explained(&place);
    assert_eq!(causes(&found)[0], "score_threshold", "{found}");
    let check = &found["explain"]["causes"][0];
    assert!(check["measured"].as_str().unwrap().contains("0 detections") && check["AP50"].is_number(), "{check}");
}

#[test]
fn results_of_unknown_images_are_explained() {
    let place = Workplace::new();
    let truth = place.json("val.json");
    let results: Vec<Value> = truth["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| {
            json!({"image_id": object["image_id"].as_i64().unwrap() + 1000, "category_id": object["category_id"],
                   "bbox": object["bbox"], "score": 0.9})
        })
        .collect();
    place.write("results.json", Value::Array(results).to_string());
    let score = ["score", "--annotations", "val.json", "--detections", "results.json"];
    place.run(&score).fails(1, &["1101"]);
    let found = place.run(&[&score[..], &["--explain", "--json", "-"]].concat()).succeeds();
    assert!(found.stderr.contains("12 of 12 detections"), "{}", found.stderr);
    let found = found.json();
    assert!(causes(&found)[0] == "image_ids_shifted" && found["AP"] == 0.0, "{found}");
    let first = &found["explain"]["causes"][0];
    assert!(first["AP50"] == 1.0 && first["measured"].as_str().unwrap().contains("1000 is subtracted"), "{first}");
}
