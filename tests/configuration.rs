//! `foveal config`, `--set` and help.

use crate::support::Workplace;

#[test]
fn what_config_prints_is_a_config_that_prints_itself() {
    let place = Workplace::new();
    let first = place.run(&["config", "tiny.toml", "--set", "train.lr=0.125"]).succeeds();
    assert!(first.stdout.contains("lr = 0.125") && first.stdout.contains("name = \"tiny\""), "{}", first.stdout);
    let absolute = place.path("pictures");
    assert!(first.stdout.contains(absolute.to_str().unwrap()), "{}", first.stdout);
    place.write("again.toml", &first.stdout);
    let second = place.run(&["config", "again.toml"]).succeeds();
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn the_printed_defaults_change_nothing() {
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
fn the_schema_names_every_fixed_key() {
    let schema = Workplace::new().run(&["config", "--schema"]).succeeds().json();
    // The keys that DESIGN promises to other programs.
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
        "data.source",
        "model.backbone",
        "model.weights",
        "model.freeze_stages",
        "model.norm",
        "model.head.norm",
        "model.head.prior",
        "model.p6_from",
        "model.anchors.rounding",
        "loss.kind",
        "loss.alpha",
        "loss.gamma",
        "loss.box",
        "loss.normalizer",
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
fn paths_in_a_file_start_from_the_file_and_set_paths_from_here() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("deep")).unwrap();
    place.write("deep/c.toml", "[data.train]\nimages = \"../images\"\n[model]\nweights = \"w.pth\"\n");
    let printed = place.run(&["config", "deep/c.toml", "--set", "data.val.images=images"]).succeeds().stdout;
    let images = format!("images = \"{}\"", place.path("pictures").display());
    assert_eq!(printed.matches(&images).count(), 2, "{printed}");
    assert!(printed.contains(&format!("weights = \"{}\"", place.path("deep/w.pth").display())), "{printed}");
}

#[test]
fn help_goes_to_stdout() {
    let place = Workplace::new();
    for arguments in [&["--help"][..], &["train", "--help"], &["predict", "--help"], &["--version"]] {
        let run = place.run(arguments).succeeds();
        assert!(!run.stdout.is_empty() && run.stderr.is_empty());
    }
}
