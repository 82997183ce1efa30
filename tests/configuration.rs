//! `foveal config`, `--set` and `--help`.

use crate::support::Workplace;

#[test]
fn the_printed_configuration_resolves_to_itself() {
    let place = Workplace::new();
    let first = place.run(&["config", "tiny.toml", "--set", "train.lr=0.125"]).succeeds();
    assert!(first.stdout.contains("lr = 0.125") && first.stdout.contains("name = \"tiny\""), "{}", first.stdout);
    let absolute = place.path("images");
    assert!(first.stdout.contains(absolute.to_str().unwrap()), "{}", first.stdout);
    place.write("again.toml", &first.stdout);
    let second = place.run(&["config", "again.toml"]).succeeds();
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    let place = Workplace::new();
    let defaults = place.run(&["config", "--defaults"]).succeeds();
    place.write("defaults.toml", &defaults.stdout);
    let resolved = place.run(&["config", "defaults.toml"]).succeeds();
    assert_eq!(resolved.stdout, place.run(&["config"]).succeeds().stdout);
    for key in ["model.weights", "data.val.annotations", "data.train.images"] {
        assert!(defaults.stdout.contains(key), "{key}");
    }
}

#[test]
fn the_schema_contains_every_key_that_other_programs_use() {
    let schema = Workplace::new().run(&["config", "--schema"]).succeeds().json();
    // Other programs use these keys, so they must keep their names.
    for key in [
        "data.train.annotations",
        "data.train.images",
        "data.val.annotations",
        "data.val.images",
        "data.min_size",
        "data.max_size",
        "data.resize",
        "data.workers",
        "data.on_error",
        "data.max_image_bytes",
        "data.source",
        "model.backbone",
        "model.weights",
        "model.freeze_stages",
        "model.norm",
        "model.head.norm",
        "model.head.prior",
        "model.head.level_scales",
        "model.p6_from",
        "model.anchors.rounding",
        "loss.kind",
        "loss.alpha",
        "loss.gamma",
        "loss.box",
        "loss.normalizer",
        "matcher.kind",
        "matcher.candidates",
        "train.epochs",
        "train.batch_size",
        "train.accumulate",
        "train.optimizer",
        "train.lr",
        "train.seed",
        "train.ema",
        "train.clip_norm",
        "eval.score_threshold",
        "eval.nms",
        "eval.max_detections",
        "bench.batch_size",
        "bench.height",
        "bench.width",
        "bench.boxes",
    ] {
        let pointer = key.split('.').fold(String::new(), |path, part| format!("{path}/properties/{part}"));
        assert!(schema.pointer(&pointer).is_some(), "{key}");
    }
}

#[test]
fn paths_are_relative_to_the_file_or_for_set_to_the_working_directory() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("deep")).unwrap();
    place.write("deep/c.toml", "[data.train]\nimages = \"../images\"\n[model]\nweights = \"w.pth\"\n");
    let printed = place.run(&["config", "deep/c.toml", "--set", "data.val.images=images"]).succeeds().stdout;
    let images = format!("images = \"{}\"", place.path("images").display());
    assert_eq!(printed.matches(&images).count(), 2, "{printed}");
    assert!(printed.contains(&format!("weights = \"{}\"", place.path("deep/w.pth").display())), "{printed}");
}

#[test]
fn a_file_extends_another_one() {
    let place = Workplace::new();
    place.write("mine.toml", "extends = \"tiny.toml\"\n[train]\nlr = 0.125\n");
    let printed = place.run(&["config", "mine.toml", "--set", "train.epochs=3"]).succeeds().stdout;
    for line in ["name = \"mine\"", "lr = 0.125", "epochs = 3", "base_width = 8"] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    assert!(!printed.contains("extends"), "{printed}");
    place.write("whole.toml", &printed);
    assert_eq!(place.run(&["config", "whole.toml"]).succeeds().stdout, printed);

    place.write("a.toml", "extends = \"b.toml\"\n");
    place.write("b.toml", "extends = \"a.toml\"\n");
    place.run(&["config", "a.toml"]).fails(1, &["b.toml: extends", "a.toml -> b.toml -> a.toml"]);
    place.write("b.toml", "train.lr = -1\n");
    place.run(&["config", "a.toml"]).fails(1, &["error: b.toml: train.lr: expected"]);
    place.run(&["config", "tiny.toml", "--set", "extends=b.toml"]).fails(2, &["--set extends=b.toml", "files only"]);
    let schema = place.run(&["config", "--schema"]).succeeds().json();
    assert_eq!(schema["properties"]["extends"]["type"], "string");
}

#[test]
fn a_run_resumes_when_its_values_move_to_another_file() {
    let place = Workplace::new();
    place.train();
    // The same values, spread over two files.
    place.write("mine.toml", "extends = \"tiny.toml\"\nname = \"tiny\"\n");
    let resumed = place.run(&["train", "mine.toml", "--out", "run", "--resume"]).succeeds();
    assert!(!resumed.stderr.contains("changed since"), "{}", resumed.stderr);
    place.write("mine.toml", "extends = \"tiny.toml\"\ntrain.lr = 0.5\n");
    place.run(&["train", "mine.toml", "--out", "run", "--resume"]).fails(1, &["train.lr was 0.01 and is 0.5"]);
}

#[test]
fn help_goes_to_stdout() {
    let place = Workplace::new();
    for arguments in [&["--help"][..], &["train", "--help"], &["predict", "--help"], &["--version"]] {
        let run = place.run(arguments).succeeds();
        assert!(!run.stdout.is_empty() && run.stderr.is_empty());
    }
}
