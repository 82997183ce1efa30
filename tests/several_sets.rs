//! Trainings on several sets, with renamed classes and folders of background images.

use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use crate::support::{Workplace, keys, lines};

/// The further settings of `several.toml`.
const SEVERAL: &str = r#"
extends = "tiny.toml"
[data]
backgrounds = ["street"]
[data.classes]
rename = { "青" = "blue" }
[[data.more_train]]
annotations = "more.json"
images = "images"
weight = 1.5
"#;

/// A folder with `several.toml`. `more.json` has the images of `train.json`, but its categories have swapped ids.
fn place() -> Workplace {
    let place = Workplace::new();
    place.write("several.toml", SEVERAL);
    let swapped = |id: &Value| json!(if id == 3 { 70 } else { 3 });
    let more = place.changed(|set| {
        for list in ["annotations", "categories"] {
            let key = if list == "annotations" { "category_id" } else { "id" };
            for record in set[list].as_array_mut().unwrap() {
                record[key] = swapped(&record[key]);
            }
        }
    });
    place.write("more.json", more);
    std::fs::create_dir_all(place.path("street/deep")).unwrap();
    for (name, grey) in [("street/b.png", 40), ("street/deep/a.png", 90)] {
        RgbImage::from_pixel(48, 64, Rgb([grey; 3])).save(place.path(name)).unwrap();
    }
    place
}

/// The losses of the steps of a run.
fn losses(place: &Workplace, run: &str) -> Vec<Value> {
    let lines = lines(&place.path(run).join("log.jsonl")).into_iter();
    lines.filter(|line| line.get("lr").is_some() && line.get("event").is_none()).map(|l| l["loss"].clone()).collect()
}

#[test]
fn a_run_on_several_sets_is_resumed_evaluated_and_scored_with_its_classes() {
    let place = place();
    let train = |run: &str, more: &[&str]| place.run(&[&["train", "several.toml", "--out", run], more].concat());
    let whole = train("whole", &["--set", "train.epochs=2"]).succeeds();
    // 6 images, 6 with the weight 1.5 and 2 background images.
    for part in ["data.train", "data.more_train[0]", "9 in an epoch", "data.backgrounds[0]", "2 in an epoch"] {
        assert!(whole.stderr.contains(part), "{part}: {}", whole.stderr);
    }
    train("run", &["--set", "train.epochs=1"]).succeeds();
    train("run", &["--set", "train.epochs=2", "--resume"]).succeeds();
    let all = losses(&place, "whole");
    // 17 images in batches of 3.
    assert_eq!((all.len(), &all), (12, &losses(&place, "run")));
    let weights = |run: &str| std::fs::read(place.path(run).join("checkpoints/last.safetensors")).unwrap();
    assert_eq!(weights("whole"), weights("run"));

    // A changed set is a change of the training.
    let changed = ["--set", "train.epochs=2", "--resume", "--set", "data.backgrounds=[]"];
    train("run", &changed).fails(1, &["data.backgrounds was", "--allow-changes"]);
    let renamed = ["--set", "train.epochs=2", "--resume", "--set", "data.classes.rename.青=azure"];
    train("run", &renamed).fails(1, &["categories was", "azure"]);

    // The last evaluation of the training, `foveal eval` and `foveal score` have the same ground truth.
    let evaluated = place.run(&["eval", "run/checkpoints/last.safetensors", "--json", "-"]).succeeds().json();
    let classes: Vec<(&str, &Value)> =
        keys(&evaluated["per_category"]).into_iter().map(|id| (id, &evaluated["per_category"][id]["name"])).collect();
    assert_eq!(classes, [("3", &json!("červená")), ("70", &json!("blue"))]);
    let log = lines(&place.path("run/log.jsonl"));
    let last = log.iter().rev().find(|line| line.get("metrics").is_some()).expect("an evaluation in the log");
    let last = &last["metrics"];
    let score = ["score", "--annotations", "val.json", "--detections", "run/val-detections.json", "--json", "-"];
    place.run(&score).fails(2, &["run/config.toml", "--config", "data.classes"]);
    let scored = place.run(&[&score[..], &["--config", "run/config.toml"]].concat()).succeeds().json();
    for key in ["AP", "AP50", "AR100"] {
        assert_eq!((&evaluated[key], &scored[key]), (&last[key], &last[key]), "{key}");
    }
    assert_eq!(scored["per_category"]["70"]["name"], "blue");

    let report = place.run(&["report", "run", "-o", "report.html"]).succeeds();
    assert!(!report.stderr.contains("without"), "{}", report.stderr);
    let page = std::fs::read_to_string(place.path("report.html")).unwrap();
    assert!(page.contains("data.more_train[0]") && page.contains("data.backgrounds[0]"));
}

/// The ground truth of an evaluation has the objects of the renamed class, wherever its ids are from.
#[test]
fn an_evaluation_knows_the_classes_of_a_validation_set_by_name() {
    let place = place();
    // The ids of the validation set are those of more.json.
    let val = place.json("val.json");
    let swapped = val
        .to_string()
        .replace("\"category_id\":3,", "\"category_id\":1070,")
        .replace("\"category_id\":70,", "\"category_id\":3,");
    let swapped = swapped.replace("\"category_id\":1070,", "\"category_id\":70,");
    let mut swapped: Value = serde_json::from_str(&swapped).unwrap();
    swapped["categories"] = json!([{"id": 3, "name": "青"}, {"id": 70, "name": "červená"}]);
    place.write("swapped.json", swapped.to_string());
    place.run(&["train", "several.toml", "--out", "run"]).succeeds();
    let eval = |options: &[&str]| place.run(&[&["eval", "run", "--json", "-"], options].concat()).succeeds().json();
    let other = eval(&["--annotations", "swapped.json", "--images", "images"]);
    assert_eq!(eval(&[]), other);
    // A class that no training set has.
    swapped["categories"][0]["name"] = json!("blu");
    place.write("swapped.json", swapped.to_string());
    place
        .run(&["eval", "run", "--annotations", "swapped.json", "--images", "images"])
        .fails(1, &["swapped.json", "\"blu\"", "\"blue\"", "train.json", "more.json"]);
}

#[test]
fn every_set_is_checked_counted_and_shown() {
    let place = place();
    let checked = place.run(&["data", "check", "several.toml", "--json", "-"]).succeeds().json();
    assert_eq!(keys(&checked), ["train", "more_train[0]", "backgrounds[0]", "val"]);
    let images: Vec<&Value> = keys(&checked).into_iter().map(|set| &checked[set]["images"]).collect();
    assert_eq!(images, [&json!(6), &json!(6), &json!(2), &json!(6)]);
    let counted = place.run(&["data", "stats", "several.toml", "--json", "-"]).succeeds().json();
    assert_eq!(keys(&counted), ["train", "more_train[0]", "backgrounds[0]", "train_all", "val"]);
    let all = &counted["train_all"];
    assert_eq!((&all["images"], &all["empty_images"], &all["objects"]), (&json!(14), &json!(2), &json!(24)));
    assert!(all["classes"].as_array().unwrap().iter().all(|class| class["objects"] == 12), "{all}");
    let shown = ["data", "show", "several.toml", "-o", "sheet.png", "--json", "-", "--count", "17"];
    let shown = place.run(&shown).succeeds().json();
    let mut sets: Vec<&str> = shown["images"].as_array().unwrap().iter().map(|i| i["set"].as_str().unwrap()).collect();
    sets.sort_unstable();
    let count = |name: &str| sets.iter().filter(|set| set.ends_with(name)).count();
    assert_eq!([count("train.json"), count("more.json"), count("street")], [6, 9, 2]);
    let names = place.run(&["summary", "several.toml", "--json", "-"]).succeeds().json();
    assert!(names.is_object());
}

#[test]
fn files_of_all_sets_are_inputs_and_relative_to_the_configuration() {
    let place = place();
    for output in ["more.json", "street/deep/a.png"] {
        place.run(&["data", "stats", "several.toml", "--json", output]).fails(2, &["--json", output, "is an input"]);
    }
    std::fs::create_dir(place.path("below")).unwrap();
    let below = SEVERAL.replace("\"tiny.toml\"", "\"../tiny.toml\"").replace("\"street\"", "\"../street\"");
    let below = below.replace("\"more.json\"", "\"../more.json\"").replace("\"images\"", "\"../images\"");
    place.write("below/several.toml", below);
    place.run(&["data", "check", "below/several.toml"]).succeeds();
    let printed = place.run(&["config", "below/several.toml"]).succeeds().stdout;
    place.write("printed.toml", &printed);
    assert!(printed.contains("weight = 1.5") && printed.contains("blue"), "{printed}");
    assert_eq!(place.run(&["config", "printed.toml"]).succeeds().stdout.replace("printed", "several"), printed);
}

#[test]
fn wrong_settings_are_named() {
    let place = place();
    let check = |set: &str, words: &[&str]| {
        place.run(&["data", "check", "several.toml", "--set", set]).fails(1, words);
    };
    check("data.backgrounds_share=2", &["data.backgrounds_share", "found"]);
    check("data.more_train=[{annotations=\"more.json\"}]", &["data.more_train[0]", "images"]);
    check("data.more_train=[{annotations=\"a\",images=\"b\",wait=2}]", &["data.more_train[0]", "wait"]);
    check("data.classes.drop=[\"červena\"]", &["data.classes.drop", "červena", "červená", "train.json"]);
    check("data.classes.kept=[\"a\"]", &["data.classes.kept", "data.classes.keep"]);
    check("data.backgrounds=[\"nowhere\"]", &["data.backgrounds[0]", "nowhere"]);
    std::fs::create_dir(place.path("empty")).unwrap();
    check("data.backgrounds=[\"empty\"]", &["data.backgrounds[0]", "empty"]);
}
