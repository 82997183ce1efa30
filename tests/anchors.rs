//! `foveal anchors fit`.

use serde_json::{Value, json};

use crate::support::{IMAGES, Workplace};

/// A small version of `configs/smallobjects.toml`.
const SMALL: &str = r#"
[data]
source = "shapes"
min_size = 384
max_size = 384
[data.shapes]
count = 24
val_count = 2
size = [384, 384]
max_objects = 20
min_object = 6
max_object = 0.0625
[model.anchors]
base_sizes = [8, 16, 32, 64, 128]
"#;

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {value}"))
}

#[test]
fn fit_raises_the_coverage_of_small_objects() {
    let place = Workplace::new();
    place.write("small.toml", SMALL);
    let fit = ["anchors", "fit", "small.toml", "-o", "new/fitted.toml", "--json", "fit.json"];
    let run = place.run(&fit).succeeds();
    for text in ["share with IoU >= 0.5", "base size of P3", "Anchors per location: 9, as before", "small"] {
        assert!(run.stdout.contains(text), "{text}: {}", run.stdout);
    }
    let json = place.json("fit.json");
    assert!(number(&json, "/objective/after/share") > number(&json, "/objective/before/share"), "{json}");
    assert_eq!(json["changed"], true);
    // The written file extends the configuration, and has the coverage that was announced.
    let coverage = |config| place.run(&["anchors", "coverage", config, "--json", "-"]).succeeds().json();
    assert_eq!(coverage("small.toml"), json["before"]);
    assert_eq!(coverage("new/fitted.toml"), json["after"]);
    let text = std::fs::read_to_string(place.path("new/fitted.toml")).unwrap();
    assert!(text.contains("extends = \"../small.toml\"") && text == json["fragment"], "{text}");
    let shown = place.run(&["config", "new/fitted.toml"]).succeeds().stdout;
    assert!(shown.contains("min_object = 6.0"), "{shown}");
    // The same seed gives the same result, on stdout and in the file.
    assert_eq!(place.run(&fit).succeeds().stdout, run.stdout);
    assert_eq!(place.json("fit.json"), json);
    // A second fit is no worse.
    let again = place.run(&["anchors", "fit", "new/fitted.toml", "--json", "-"]).succeeds().json();
    assert!(number(&again, "/objective/after/share") >= number(&json, "/objective/after/share"), "{again}");
}

#[test]
fn fit_changes_what_it_is_asked_to_change() {
    let place = Workplace::new();
    place.write("small.toml", SMALL);
    let fit = |options: &[&str]| place.run(&[&["anchors", "fit", "small.toml"], options].concat()).succeeds();
    let sizes = fit(&["--what", "sizes", "--json", "-"]).json();
    assert_eq!(sizes["anchors"]["after"]["ratios"], sizes["anchors"]["before"]["ratios"]);
    assert_ne!(sizes["anchors"]["after"]["base_sizes"], sizes["anchors"]["before"]["base_sizes"]);
    // Without -o, the configuration is printed.
    let given = fit(&["--ratios", "2", "--scales", "1"]).stdout;
    assert!(given.contains("Anchors per location: 2, before 9") && given.contains("do not fit"), "{given}");
    let (_, fragment) = given.split_once("(-o FILE writes it):\n\n").unwrap();
    place.write("two.toml", fragment);
    let shown = place.run(&["config", "two.toml"]).succeeds().stdout;
    assert!(shown.contains("scales = 1"), "{shown}");
    // Larger images for anchors that may not change, within a limit.
    let wide = ["--set", "model.anchors.base_sizes=[16, 32, 64, 128, 256]"];
    let input = ["--what", "input", "--max-pixels", "1.5", "-o", "input.toml", "--json", "-"];
    let input = fit(&[&wide[..], &input[..]].concat()).json();
    let side = number(&input, "/input/after/min_size");
    assert!(side > 384.0 && side * side <= 1.5 * 384.0 * 384.0, "{input}");
    let text = std::fs::read_to_string(place.path("input.toml")).unwrap();
    assert!(text.contains(&format!("min_size = {side}\n")) && text.contains("# Fitted with --set"), "{text}");
    let coverage = ["anchors", "coverage", "input.toml", "--json", "-"];
    assert_eq!(place.run(&coverage).succeeds().json(), input["after"]);
    // Another threshold.
    let strict = fit(&["--iou", "0.8", "--json", "-"]).json();
    assert!(number(&strict, "/objective/after/share") >= number(&strict, "/objective/before/share"), "{strict}");
    assert!(number(&strict, "/objective/before/share") < number(&sizes, "/objective/before/share"), "{strict}");
}

#[test]
fn fit_says_so_if_nothing_is_better() {
    let place = Workplace::new();
    // All objects are anchors.
    let exact = place.changed(|train| {
        for (i, annotation) in train["annotations"].as_array_mut().unwrap().iter_mut().enumerate() {
            let edge = 16 + 8 * (i % 2);
            annotation["bbox"] = json!([edge, edge, 32, 32]);
            annotation["area"] = json!(1024);
        }
    });
    place.write("train.json", exact);
    for kind in ["iou", "atss"] {
        let set = format!("matcher.kind={kind}");
        let run = place.run(&["anchors", "fit", "tiny.toml", "-o", "same.toml", "--set", &set]).succeeds();
        assert!(run.stdout.contains("Nothing better was found"), "{}", run.stdout);
        assert_eq!(run.stdout.contains("nearest centres, whatever"), kind == "atss", "{}", run.stdout);
        let text = std::fs::read_to_string(place.path("same.toml")).unwrap();
        assert!(text.contains("base_sizes = [32.0, 64.0, 128.0, 256.0, 512.0]\nscales = 3\n"), "{text}");
    }
    let json = place.run(&["anchors", "fit", "tiny.toml", "--json", "-"]).succeeds().json();
    assert_eq!((&json["changed"], &json["after"]), (&json!(false), &json["before"]));
    assert_eq!(json["after"]["all"]["objects"], 2 * IMAGES);
}

#[test]
fn fit_refuses_wrong_options_and_never_writes_an_input() {
    let place = Workplace::new();
    place.write("above.toml", "extends = \"tiny.toml\"\n");
    let fit = |options: &[&str]| place.run(&[&["anchors", "fit", "above.toml"], options].concat());
    let before = std::fs::read(place.path("tiny.toml")).unwrap();
    fit(&["-o", "above.toml"]).fails(2, &["above.toml", "input"]);
    fit(&["-o", "tiny.toml"]).fails(2, &["tiny.toml", "input"]);
    fit(&["--json", "./train.json"]).fails(2, &["train.json", "input"]);
    fit(&["-o", "x.toml", "--json", "x.toml"]).fails(2, &["x.toml", "same file"]);
    assert_eq!(std::fs::read(place.path("tiny.toml")).unwrap(), before);
    assert!(!place.path("x.toml").exists());
    fit(&["--what", "scales"]).fails(2, &["--what scales", "ratios too"]);
    fit(&["--what", "sizes", "--ratios", "2"]).fails(2, &["--ratios", "--what"]);
    fit(&["--what", "sizes", "--scales", "2"]).fails(2, &["--scales", "--what"]);
    fit(&["--max-pixels", "2"]).fails(2, &["--max-pixels", "input"]);
    fit(&["--what", "input", "--max-pixels", "0.5"]).fails(2, &["factor from 1 to 16"]);
    fit(&["--iou", "1.5"]).fails(2, &["IoU above 0 and below 1"]);
    fit(&["--what", "colours"]).fails(2, &["colours"]);
    let many = ["--set", "data.augment.min_sizes=[64, 96]"];
    fit(&[&["--what", "input"], &many[..]].concat()).fails(1, &["--what input", "data.augment.min_sizes"]);
    let run = fit(&many).succeeds();
    assert!(run.stderr.contains("warning:") && run.stderr.contains("data.augment.min_sizes"), "{}", run.stderr);
}
