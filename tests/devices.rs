//! `foveal devices`, the choice of `--device auto`, and `foveal train --auto-batch`.

use serde_json::Value;

use crate::support::{Workplace, keys};

/// A driver list without drivers, so that the tests do not depend on the adapters of the machine.
const NO_DRIVERS: [(&str, &str); 2] =
    [("VK_DRIVER_FILES", "/nonexistent/icd.json"), ("VK_ICD_FILENAMES", "/nonexistent/icd.json")];

/// Runs the binary on a machine without Vulkan drivers and returns stdout and stderr.
fn run(place: &Workplace, arguments: &[&str]) -> (String, String) {
    let output = place.command(arguments).envs(NO_DRIVERS).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    (stdout, stderr)
}

#[test]
fn both_cpu_backends_are_listed_first() {
    let place = Workplace::new();
    let (stdout, _) = run(&place, &["devices", "--json", "-", "--threads", "2"]);
    let listing: Value = serde_json::from_str(&stdout).unwrap();
    let devices = listing["devices"].as_array().unwrap();
    for (device, name) in devices.iter().zip(["flex", "ndarray"]) {
        assert_eq!((&device["device"], &device["name"], &device["type"]), (&name.into(), &name.into(), &"cpu".into()));
        assert_eq!(device["threads"], 2);
        assert!(["AVX2", "AVX-512", "NEON", "portable"].contains(&device["simd"].as_str().unwrap()));
        assert_eq!(device["precisions"], serde_json::json!(["f32"]));
        assert_eq!((&device["error"], &device["test"]), (&Value::Null, &Value::Null));
    }
    assert_eq!(
        keys(&devices[0]),
        [
            "device",
            "type",
            "name",
            "threads",
            "simd",
            "memory_bytes",
            "free_memory_bytes",
            "precisions",
            "error",
            "test"
        ]
    );
    let (table, _) = run(&place, &["devices"]);
    assert!(table.starts_with("flex      CPU\n") && table.contains("\nndarray   CPU\n"), "{table}");
}

#[test]
fn the_self_test_passes_on_both_cpu_backends() {
    let place = Workplace::new();
    let (stdout, _) = run(&place, &["devices", "--test", "--json", "list.json"]);
    assert_eq!(stdout.matches("self test passed in ").count(), 2, "{stdout}");
    for device in place.json("list.json")["devices"].as_array().unwrap() {
        let test = &device["test"];
        assert_eq!(test["result"], "passed");
        let difference = test["largest_difference"].as_f64().unwrap();
        assert!(difference > 0.0 && difference < 1e-5, "{difference}");
        assert!(test["seconds"].as_f64().unwrap() < 10.0);
    }
}

/// Linux has no other API than Vulkan.
#[cfg(target_os = "linux")]
#[test]
fn auto_takes_the_cpu_without_a_gpu_and_says_so() {
    let place = Workplace::new();
    let (_, stderr) = run(&place, &["train", "tiny.toml", "--out", "run", "--threads", "2"]);
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("--device auto")).collect();
    assert_eq!(
        lines,
        ["--device auto takes the CPU (flex), because this machine has no GPU that wgpu finds \
         (a GPU needs a driver for Vulkan, Metal or DirectX 12)"]
    );
    assert!(stderr.contains("device flex"), "{stderr}");
}

/// Six images leave one for each of the 16 steps that an epoch keeps.
#[cfg(target_os = "linux")]
#[test]
fn a_batch_is_computed_from_the_memory_and_kept_on_resume() {
    let place = Workplace::new();
    let train = ["train", "tiny.toml", "--out", "run", "--auto-batch", "--set", "train.lr=0.016"];
    let stderr = place.run(&[&train[..], &["--set", "train.max_steps=2"]].concat()).succeeds().stderr;
    for words in [
        "--auto-batch: train.batch_size = 1 for images of 64x64 pixels, bounded by the number of training images",
        "--auto-batch: the learning rate is 0.001 after the warm-up",
    ] {
        assert!(stderr.contains(words), "expected `{words}` in: {stderr}");
    }
    let saved = std::fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(saved.contains("\nbatch_size = 1\n"), "{saved}");
    let resumed = place.run(&[&train[..], &["--resume", "--set", "train.max_steps=4"]].concat()).succeeds();
    assert!(resumed.stderr.contains("train.batch_size = 1, with which the run was begun"), "{}", resumed.stderr);
}

/// Feature maps and unfolded inputs are half as large in 16 bits; logits stay in 32 bits, and so does all on a CPU.
#[test]
fn the_summary_of_a_gpu_follows_the_precision() {
    let place = Workplace::new();
    let summary = |precision: &str| {
        let set = format!("train.precision={precision}");
        place.run(&["summary", "tiny.toml", "--size", "64x96", "--set", &set, "--json", "-"]).succeeds().json()
    };
    let (wide, half) = (summary("f32"), summary("f16"));
    let same = |summary: &Value, keys: [&str; 2]| summary[keys[0]][keys[1]].as_u64().unwrap();
    for keys in [
        ["gpu_training_memory", "activations"],
        ["gpu_training_memory", "working"],
        ["gpu_training_memory", "columns"],
        ["largest_tensors", "feature_map"],
        ["largest_tensors", "unfolded_input"],
    ] {
        assert_eq!(2 * same(&half, keys), same(&wide, keys), "{keys:?}");
    }
    for keys in [
        ["gpu_training_memory", "weights"],
        ["gpu_training_memory", "losses"],
        ["largest_tensors", "class_logits"],
        ["training_memory", "activations"],
    ] {
        assert_eq!(same(&half, keys), same(&wide, keys), "{keys:?}");
    }
}

#[test]
fn the_summary_has_what_a_gpu_needs_at_least() {
    let place = Workplace::new();
    let size = ["--size", "64x96", "--batch", "2", "--json", "-"];
    let summary = place.run(&[&["summary", "tiny.toml"], &size[..]].concat()).succeeds().json();
    let number = |value: &Value| value.as_u64().unwrap();
    let (cpu, gpu) = (&summary["training_memory"], &summary["gpu_training_memory"]);
    assert_eq!(
        gpu.as_object().unwrap().values().map(number).sum::<u64>(),
        number(&summary["gpu_training_memory_total"])
    );
    assert_eq!((number(&cpu["columns"]), number(&gpu["process"])), (0, 0));
    let largest = &summary["largest_tensors"];
    // The stem unfolds 3x7x7 values for each of 32x48 output pixels. The images are the largest map.
    assert_eq!(number(&largest["unfolded_input"]), 4 * 2 * 32 * 48 * 147);
    assert_eq!(number(&largest["unfolded_input"]), number(&gpu["columns"]));
    assert_eq!(number(&largest["feature_map"]), 4 * 2 * 64 * 96 * 3);
    let anchors = number(&summary["anchors"]);
    assert_eq!(number(&largest["class_logits"]), 4 * 2 * anchors * number(&summary["classes"]));
}
