//! `foveal init`: what it writes trains, and what it cannot use is named.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{IMAGES, Workplace};

const DATA: [&str; 5] = ["init", "--train", "train.json", "--images", "images"];

/// Runs `foveal init` on the training set with further arguments.
fn init(place: &Workplace, arguments: &[&str]) -> crate::support::Run {
    place.run(&[&DATA[..], arguments].concat())
}

/// The names of the images of an annotation file.
fn names(place: &Workplace, file: &str) -> HashSet<String> {
    let images = place.json(file)["images"].as_array().unwrap().clone();
    images.iter().map(|image| image["file_name"].as_str().unwrap().to_owned()).collect()
}

fn text(place: &Workplace, file: &str) -> String {
    std::fs::read_to_string(place.path(file)).unwrap()
}

/// The values of the settings in the JSON result.
fn setting<'a>(json: &'a Value, key: &str) -> &'a Value {
    let all = json["settings"].as_array().unwrap();
    &all.iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("{key}"))["value"]
}

#[test]
fn a_validation_set_is_held_out_and_what_is_written_trains() {
    let place = Workplace::new();
    let run = init(&place, &["--json", "init.json"]).succeeds();
    assert!(run.stdout.contains("To train: foveal train mine.toml"), "{}", run.stdout);
    assert!(run.stderr.contains("without --weights"), "{}", run.stderr);
    let (train, val) = (names(&place, "mine-train.json"), names(&place, "mine-val.json"));
    assert!(train.is_disjoint(&val) && !val.is_empty());
    assert_eq!(train.len() + val.len(), IMAGES);
    assert_eq!(place.json("mine-val.json")["categories"], place.json("train.json")["categories"]);
    let json = place.json("init.json");
    assert_eq!(setting(&json, "data.train.annotations"), "mine-train.json");
    assert_eq!(setting(&json, "data.min_size"), 64);
    assert_eq!(json["facts"]["val"]["held_out"], true);
    // Every setting of the file stands below a comment.
    let config = text(&place, "mine.toml");
    let lines: Vec<&str> = config.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair[1].contains(" = ") && !pair[1].starts_with('#')) {
        assert!(pair[0].starts_with('#'), "{pair:?}");
    }
    place.run(&["train", "mine.toml", "--out", "run", "--set", "train.epochs=1"]).succeeds();

    // A second run writes the same, and only when it is told to overwrite.
    init(&place, &[]).fails(1, &["mine.toml", "the file exists", "--force"]);
    init(&place, &["--force"]).succeeds();
    assert_eq!(text(&place, "mine.toml"), config);
    assert_eq!(names(&place, "mine-val.json"), val);
    std::fs::remove_file(place.path("mine.toml")).unwrap();
    init(&place, &[]).fails(1, &["mine-train.json", "the file exists"]);
}

#[test]
fn copies_of_an_image_are_in_the_same_part() {
    let place = Workplace::new();
    for (copy, original) in [(2, 1), (4, 3), (6, 5)] {
        std::fs::copy(place.path(&format!("images/{original}.png")), place.path(&format!("images/{copy}.png")))
            .unwrap();
    }
    init(&place, &["--json", "init.json"]).succeeds();
    let val = names(&place, "mine-val.json");
    for (copy, original) in [("2.png", "1.png"), ("4.png", "3.png"), ("6.png", "5.png")] {
        assert_eq!(val.contains(copy), val.contains(original), "{val:?}");
    }
    assert_eq!(place.json("init.json")["facts"]["data"]["duplicates"], 3);
}

#[test]
fn paths_are_relative_to_the_configuration() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("configs")).unwrap();
    init(&place, &["--val", "val.json", "-o", "configs/a.toml", "--set", "train.epochs=2"]).succeeds();
    let config = text(&place, "configs/a.toml");
    for line in ["annotations = \"../train.json\"", "annotations = \"../val.json\"", "images = \"../images\""] {
        assert!(config.contains(line), "{config}");
    }
    assert!(config.contains("# Set on the command line.\nepochs = 2\n") || config.contains("epochs = 2\n"), "{config}");
    assert!(!place.path("configs/a-val.json").exists());
    place.run(&["config", "configs/a.toml"]).succeeds();
}

#[test]
fn steps_are_timed_if_the_minutes_are_limited() {
    let place = Workplace::new();
    let run = init(&place, &["--minutes", "0.5", "--json", "-"]).succeeds();
    assert!(run.stderr.contains("timing training steps"), "{}", run.stderr);
    let json = run.json();
    let timed = &json["facts"]["timed"];
    assert!(["train", "infer", "load"].iter().all(|key| timed[key].as_f64().unwrap() > 0.0), "{timed}");
    let seconds = json["plan"]["seconds"].as_f64().unwrap();
    assert!(seconds > 0.0 && (seconds <= 30.0 || setting(&json, "train.epochs") == 1), "{seconds}");
    assert!(text(&place, "mine.toml").contains("0.5 minutes"));
}

#[test]
fn a_checkpoint_keeps_its_network() {
    let place = Workplace::new();
    place.train();
    let weights = ["--weights", "run/checkpoints/last.safetensors", "--val", "val.json", "--json", "init.json"];
    init(&place, &weights).succeeds();
    let json = place.json("init.json");
    assert_eq!(setting(&json, "model.base_width"), 8);
    assert_eq!(setting(&json, "model.weights"), "run/checkpoints/last.safetensors");
    assert_eq!(setting(&json, "matcher.kind"), "iou");
    let tuned = place.run(&["train", "mine.toml", "--out", "tuned", "--set", "train.epochs=1"]).succeeds();
    assert!(!tuned.stderr.contains("newly initialised"), "{}", tuned.stderr);
    place.write("other.safetensors", b"not weights at all, but long enough to be read");
    init(&place, &["--weights", "other.safetensors", "--force"]).fails(1, &["other.safetensors", "expected"]);
}

#[test]
fn data_that_cannot_be_used_are_named() {
    let place = Workplace::new();
    let with = |change: fn(&mut Value), words: &[&str]| {
        place.write("bad.json", place.changed(change));
        place.run(&["init", "--train", "bad.json", "--images", "images"]).fails(1, words);
        assert!(!place.path("mine.toml").exists() && !place.path("mine-val.json").exists());
    };
    with(|v| v["categories"] = json!([]), &["bad.json", "categor"]);
    with(|v| drop(v.as_object_mut().unwrap().remove("categories")), &["bad.json", "categories"]);
    with(|v| v["annotations"] = json!([]), &["bad.json", "no annotations of objects"]);
    with(
        |v| v["images"].as_array_mut().unwrap().truncate(1),
        &["bad.json", "annotations of images that are not in the file"],
    );
    with(
        |v| {
            v["images"].as_array_mut().unwrap().truncate(1);
            v["annotations"].as_array_mut().unwrap().retain(|a| a["image_id"] == 1);
        },
        &["bad.json", "at least two different images", "found 1", "--val"],
    );
    place.run(&["init", "--train", "train.json", "--images", "gone"]).fails(1, &["--images gone", "found nothing"]);
    place.run(&["init", "--train", "gone.json", "--images", "images"]).fails(1, &["gone.json"]);
}

#[test]
fn wrong_options_are_refused_before_anything_is_written() {
    let place = Workplace::new();
    init(&place, &["--minutes", "0"]).fails(2, &["--minutes", "above 0"]);
    init(&place, &["-o", "train.json", "--force"]).fails(2, &["-o train.json", "annotation file"]);
    init(&place, &["--set", "data.train.images=images"]).fails(2, &["data.train.images", "--images"]);
    init(&place, &["--set", "train.epoch=3"]).fails(1, &["train.epoch", "train.epochs"]);
    init(&place, &["--val-images", "images"]).fails(2, &["--val"]);
    assert!(!place.path("mine.toml").exists());
}
