//! `foveal summary` of configurations and checkpoints.

use serde_json::Value;

use crate::support::{Workplace, keys};

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn a_configuration_and_its_checkpoint_have_the_same_layers() {
    let place = Workplace::new();
    place.train();
    let size = ["--size", "64x96", "--batch", "2", "--json", "-"];
    let of = |input: &str| place.run(&[&["summary", input], size.as_slice()].concat()).succeeds().json();
    let (config, checkpoint) = (of("tiny.toml"), of("run/checkpoints/last.safetensors"));
    assert_eq!(config["layers"], checkpoint["layers"]);
    assert_eq!(config["parts"], checkpoint["parts"]);
    assert_eq!((&config["classes"], &config["batch"]), (&2.into(), &2.into()));
    assert_eq!((&config["height"], &config["width"]), (&64.into(), &96.into()));

    // The parts add up, and each layer belongs to one of them.
    let parts = &config["parts"];
    assert_eq!(keys(parts), ["backbone", "pyramid", "heads", "total"]);
    for key in ["parameters", "buffers", "multiply_adds"] {
        let sum: u64 = ["backbone", "pyramid", "heads"].iter().map(|part| number(&parts[part][key])).sum();
        assert_eq!(sum, number(&parts["total"][key]), "{key}");
        let layers: u64 = config["layers"].as_array().unwrap().iter().map(|layer| number(&layer[key])).sum();
        assert_eq!(sum, layers, "{key}");
    }
    let memory = config["training_memory"].as_object().unwrap();
    assert_eq!(memory.values().map(number).sum::<u64>(), number(&config["training_memory_total"]));
}

#[test]
fn the_table_names_layers_and_totals() {
    let place = Workplace::new();
    let table = place.run(&["summary", "tiny.toml", "--set", "model.backbone=resnet50"]).succeeds().stdout;
    for words in [
        "backbone.body.layer1.0.conv2",
        "head.classification_head.cls_logits",
        "7x7 convolution, stride 2",
        "expected memory of a training step",
    ] {
        assert!(table.contains(words), "{words} in {table}");
    }
}

#[test]
fn grouped_backbones_say_what_widths_they_can_have() {
    let place = Workplace::new();
    let sets = ["--set", "model.backbone=resnext50_32x4d", "--set", "model.base_width=8"];
    place
        .run(&[&["summary", "tiny.toml"], sets.as_slice()].concat())
        .fails(1, &["--set model.base_width=8", "a multiple of 16 from 16", "found 8"]);
}

#[test]
fn sizes_and_classes_that_cannot_be() {
    let place = Workplace::new();
    place.run(&["summary", "tiny.toml", "--size", "800"]).fails(2, &["--size", "800x1344"]);
    place.run(&["summary", "tiny.toml", "--size", "0x32"]).fails(2, &["--size"]);
    place.run(&["summary", "tiny.toml", "--set", "data.train.annotations=none.json"]).fails(1, &["none.json"]);
}

/// The estimate is within 15 % of the resident memory that a training step really takes.
#[cfg(target_os = "linux")]
#[test]
fn the_expected_memory_is_that_of_the_bench() {
    let place = Workplace::new();
    place.write("r18.toml", "[model]\nbackbone = \"resnet18\"\nnorm = \"frozen_batch\"\n");
    let size = ["--set", "bench.height=320", "--set", "bench.width=320", "--set", "bench.warmup=1"];
    let bench = ["bench", "r18.toml", "--only", "train", "--steps", "1", "--json", "-"];
    let measured = place.run(&[&bench, size.as_slice()].concat()).succeeds().json()["peak_rss_mb"].as_f64().unwrap();
    let summary = ["summary", "r18.toml", "--classes", "80", "--batch", "2", "--size", "320x320", "--json", "-"];
    let expected = number(&place.run(&summary).succeeds().json()["training_memory_total"]) as f64 / (1 << 20) as f64;
    assert!((expected / measured - 1.0).abs() < 0.15, "{expected:.0} MiB expected, {measured:.0} MiB measured");
}
