//! Training, evaluation, prediction and scoring in sequence, resumed runs, and `foveal bench`.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{IMAGES, Workplace, keys, lines};

/// Longest time that a test waits for the first epoch of a run.
const LIMIT: Duration = Duration::from_secs(120);

/// The keys of the COCO metrics, in their order.
const METRICS: [&str; 12] = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];
#[test]
fn train_eval_predict_score() {
    let place = Workplace::new();
    let trained = place.run(&["train", "tiny.toml", "--out", "run", "--set", "train.epochs=2"]).succeeds();
    assert!(trained.stdout.contains("Average Precision"), "{}", trained.stdout);
    for file in ["config.toml", "log.jsonl", "metrics.csv", "checkpoints/best.safetensors", "state", "report.html"] {
        assert!(place.path("run").join(file).exists(), "{file}");
    }

    // `eval` gives the metrics of the training, both with the validation set of the run and with explicit files.
    let last = "run/checkpoints/last.safetensors";
    let own = place.run(&["eval", last, "--json", "-", "--coco", "own.json"]).succeeds().json();
    let named =
        place.run(&["eval", last, "--annotations", "val.json", "--images", "images", "--json", "-"]).succeeds().json();
    assert_eq!(own, named);
    let mut expected = METRICS.to_vec();
    expected.extend(["per_category", "losses", "images", "left_out"]);
    assert_eq!(keys(&own), expected);
    assert_eq!(keys(&own["losses"]), ["class", "box", "total"]);
    assert_eq!(keys(&own["per_category"]), ["3", "70"]);
    assert_eq!(own["per_category"]["70"]["name"], "青");
    assert_eq!(keys(&own["per_category"]["3"]), ["name", "AP", "AP50"]);
    let logged = lines(&place.path("run/log.jsonl")).pop().unwrap();
    assert_eq!(logged["metrics"]["AP"], own["AP"]);

    // `predict` gives the detections of `eval`, and `score` gives the same metrics.
    let predicted = place
        .run(&["predict", last, "images/10*.png", "--json", "-", "--coco", "predicted.json", "--draw", "drawn"])
        .succeeds()
        .json();
    let list = predicted.as_array().unwrap();
    assert_eq!(list.len(), IMAGES);
    for image in list {
        assert_eq!(keys(image), ["file", "width", "height", "detections"]);
        assert_eq!((&image["width"], &image["height"]), (&Value::from(64), &Value::from(64)));
        let scores: Vec<f64> =
            image["detections"].as_array().unwrap().iter().map(|d| d["score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "best first: {scores:?}");
    }
    let drawn = image::open(place.path("drawn/101.jpg")).unwrap();
    assert!(drawn.width() >= 64);
    assert_eq!(place.json("own.json"), place.json("predicted.json"));
    let score =
        place.run(&["score", "--annotations", "val.json", "--detections", "own.json", "--json", "-"]).succeeds();
    let score = score.json();
    assert_eq!(keys(&score), &expected[..13]);
    for metric in METRICS {
        let (a, b) = (score[metric].as_f64().unwrap(), own[metric].as_f64().unwrap());
        assert!((a - b).abs() < 1e-12, "{metric}: {a} {b}");
    }
}

#[test]
fn detections_have_the_documented_keys() {
    let place = Workplace::new();
    place.train();
    let checkpoint = "run/checkpoints/last.safetensors";
    // After one epoch the scores are near the prior of 0.01, so a lower threshold is needed to get detections.
    let arguments = ["predict", checkpoint, "images", "--json", "out.json", "--score-threshold", "0.001"];
    let quiet = place.run(&arguments).succeeds();
    assert_eq!(quiet.stdout, "");
    let out = place.json("out.json");
    let images = out.as_array().unwrap();
    assert_eq!(images.len(), 2 * IMAGES);
    let detection = &images[0]["detections"][0];
    assert_eq!(keys(detection), ["bbox", "score", "category_id", "category"]);
    let bbox: Vec<f64> = detection["bbox"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert!(bbox[0] >= 0.0 && bbox[0] + bbox[2] <= 64.001 && bbox[1] + bbox[3] <= 64.001, "{bbox:?}");
    assert!([3, 70].contains(&detection["category_id"].as_i64().unwrap()));
    let limited = place.run(&[&arguments[..], &["--set", "eval.max_detections=2"]].concat()).succeeds();
    assert_eq!(limited.code, Some(0));
    let most =
        place.json("out.json").as_array().unwrap().iter().map(|p| p["detections"].as_array().unwrap().len()).max();
    assert_eq!(most, Some(2));
}

#[test]
fn a_broken_image_does_not_stop_the_others() {
    let place = Workplace::new();
    place.train();
    place.write("broken.jpg", "this is text");
    let inputs = ["predict", "run/checkpoints/last.safetensors", "broken.jpg", "images/101.png", "--json", "out.json"];
    let run = place.run(&inputs);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("broken.jpg") && run.stderr.contains("1 of 2"), "{}", run.stderr);
    assert_eq!(place.json("out.json").as_array().unwrap().len(), 1);
}

#[test]
fn a_resumed_run_equals_one_that_never_stopped() {
    let place = Workplace::new();
    let epochs = |n: &'static str| ["--set", n, "--set", "train.schedule=constant"];
    place.run(&[&["train", "tiny.toml", "--out", "whole"], &epochs("train.epochs=2")[..]].concat()).succeeds();
    place.run(&[&["train", "tiny.toml", "--out", "parts"], &epochs("train.epochs=1")[..]].concat()).succeeds();
    place
        .run(&[&["train", "tiny.toml", "--out", "parts", "--resume"], &epochs("train.epochs=2")[..]].concat())
        .succeeds();
    let losses = |run: &str| -> Vec<Value> {
        lines(&place.path(run).join("log.jsonl")).into_iter().filter_map(|line| line.get("loss").cloned()).collect()
    };
    assert_eq!(losses("whole").len(), 4);
    assert_eq!(losses("whole"), losses("parts"));
}

#[test]
fn runs_are_numbered_and_never_overwritten() {
    let place = Workplace::new();
    for _ in 0..2 {
        place.run(&["train", "tiny.toml", "--set", "train.max_steps=1"]).succeeds();
    }
    assert!(place.path("runs/tiny-1/config.toml").exists() && place.path("runs/tiny-2/config.toml").exists());
}

#[test]
fn overfit_evaluates_the_images_that_it_trains_on() {
    let place = Workplace::new();
    let run = place.run(&["train", "tiny.toml", "--out", "run", "--overfit", "2"]).succeeds();
    assert!(run.stderr.contains("overfitting 2"), "{}", run.stderr);
}

#[test]
fn bench_writes_the_documented_keys() {
    let place = Workplace::new();
    let arguments = ["bench", "tiny.toml", "--steps", "2", "--json", "-", "--set", "bench.height=64", "--set"];
    let report = place.run(&[&arguments[..], &["bench.width=96"]].concat()).succeeds().json();
    let expected =
        ["device", "threads", "batch", "height", "width", "train_step_ms", "infer_ms", "loss_ms", "peak_rss_mb"];
    let later = ["focal_ms", "data_images_per_second", "transforms", "adapter", "driver", "compiler", "precision"];
    let last = ["first_step_seconds", "turn_steps", "peak_device_mb", "first_step_values", "detections"];
    let counts = ["operations_per_step", "blocks_per_step", "instruction_set", "infer_raw_ms", "minor_faults"];
    let peak = ["peak_gflops_one", "peak_gflops_all"];
    assert_eq!(keys(&report), [&expected[..], &later, &last, &counts, &peak].concat());
    assert_eq!((&report["precision"], &report["adapter"]), (&Value::from("f32"), &Value::from("")));
    assert_eq!((&report["height"], &report["width"]), (&Value::from(64), &Value::from(96)));
    for phase in ["train_step_ms", "infer_ms", "loss_ms", "focal_ms"] {
        assert_eq!(report[phase].as_array().unwrap().len(), 2, "{phase}");
    }
    let report = place.run(&["bench", "tiny.toml", "--steps", "1", "--only", "loss", "--json", "-"]).succeeds().json();
    assert_eq!(report["train_step_ms"].as_array().unwrap().len(), 0);
    let report = place.run(&["bench", "tiny.toml", "--steps", "2", "--only", "data", "--json", "-"]).succeeds().json();
    let rates = report["data_images_per_second"].as_array().unwrap();
    assert!(rates.len() == 2 && rates.iter().all(|r| r.as_f64().unwrap() > 0.0), "{rates:?}");
    assert_eq!(report["transforms"], serde_json::json!([]));
    let arguments = ["bench", "tiny.toml", "--steps", "2", "--only", "data", "--json", "-", "--set"];
    let grey = "data.augment.transforms=[{kind='grey', probability=1}]";
    let report = place.run(&[&arguments[..], &[grey]].concat()).succeeds().json();
    // Two passes over all images; those of the warm-up do not count.
    assert_eq!(report["transforms"][0]["applied"], 2 * IMAGES);
}

#[test]
fn bench_writes_what_the_network_computes() {
    let place = Workplace::new();
    let size = ["--set", "bench.height=64", "--set", "bench.width=96", "--set", "bench.batch_size=1"];
    let arguments = ["bench", "tiny.toml", "--steps", "2", "--only", "raw", "--json", "-", "--outputs", "out/raw.st"];
    let report = place.run(&[&arguments[..], &size].concat()).succeeds().json();
    assert_eq!(report["infer_raw_ms"].as_array().unwrap().len(), 2);
    assert_eq!(report["infer_ms"].as_array().unwrap().len(), 0);
    let bytes = std::fs::read(place.path("out/raw.st")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("images").unwrap().shape(), [1, 3, 64, 96]);
    let [logits, deltas] = ["logits", "deltas"].map(|name| tensors.tensor(name).unwrap().shape().to_vec());
    assert_eq!((logits[..2].to_vec(), deltas[2]), (deltas[..2].to_vec(), 4));
    assert!(tensors.tensor("network.backbone.body.conv1.weight").is_ok());
}

#[test]
fn bench_measures_the_peak() {
    let place = Workplace::new();
    let report = place.run(&["bench", "tiny.toml", "--steps", "2", "--only", "peak", "--json", "-"]).succeeds().json();
    for key in ["peak_gflops_one", "peak_gflops_all"] {
        let found = report[key].as_array().unwrap();
        assert!(found.len() == 2 && found.iter().all(|rate| rate.as_f64().unwrap() > 0.0), "{key}: {found:?}");
    }
}

#[test]
fn bench_runs_cases_in_one_process() {
    let place = Workplace::new();
    let cases = [
        r#"{"name": "a", "batch": 1, "height": 64, "width": 96, "steps": 2, "warmup": 0, "precision": "f32"}"#,
        "",
        r#"{"name": "b", "phase": "loss", "set": {"bench.height": 64, "train.lr": -1.5}}"#,
        r#"{"name": "c", "phase": "infer", "steps": 3, "warmup": 1, "height": 64, "width": 64}"#,
    ];
    place.write("cases.jsonl", cases.join("\n"));
    let arguments = ["bench", "tiny.toml", "--set", "bench.classes=3", "--cases", "cases.jsonl", "--json", "out/lines"];
    let run = place.run(&arguments);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("error: case b: "), "{}", run.stderr);
    let results = lines(&place.path("out/lines"));
    assert_eq!(results.len(), 3);
    assert_eq!(results[0]["case"]["name"], "a");
    assert_eq!((&results[0]["report"]["batch"], &results[0]["report"]["width"]), (&Value::from(1), &Value::from(96)));
    assert_eq!(results[0]["report"]["train_step_ms"].as_array().unwrap().len(), 2);
    assert!(results[1]["error"].as_str().unwrap().contains("train.lr"), "{}", results[1]);
    assert_eq!(results[2]["report"]["infer_ms"].as_array().unwrap().len(), 3);

    // A second call appends.
    place.write("one.jsonl", cases[3]);
    place.run(&["bench", "tiny.toml", "--cases", "one.jsonl", "--json", "out/lines"]).succeeds();
    assert_eq!(lines(&place.path("out/lines")).len(), 4);

    place.write("bad.jsonl", "{\"batches\": 1}\n");
    let run = place.run(&["bench", "tiny.toml", "--cases", "bad.jsonl"]);
    assert!(run.code == Some(1) && run.stderr.contains("bad.jsonl:1"), "{}", run.stderr);
    assert!(run.stderr.contains("unknown field `batches`"), "{}", run.stderr);
}

#[test]
fn only_a_gpu_has_kernels_to_count() {
    let place = Workplace::new();
    for more in [&["--steps", "1"][..], &["--cases", "none.jsonl"]] {
        let run = place.run(&[&["bench", "tiny.toml", "--count"], more].concat());
        run.fails(2, &["--count: expected a GPU, found the CPU device flex"]);
    }
}

#[test]
fn ndarray_and_flex_agree() {
    let place = Workplace::new();
    let losses = |device: &str| -> Vec<f64> {
        place.run_on(device, &["train", "tiny.toml", "--out", device]).succeeds();
        lines(&place.path(device).join("log.jsonl")).iter().filter_map(|line| line["loss"].as_f64()).collect()
    };
    let (flex, ndarray) = (losses("flex"), losses("ndarray"));
    assert_eq!(flex.len(), 2);
    for (a, b) in flex.iter().zip(&ndarray) {
        // The backends add in different orders.
        assert!((a - b).abs() <= 1e-4 * a.abs(), "{flex:?} {ndarray:?}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_exits_with_130_and_can_be_resumed() {
    let place = Workplace::new();
    let mut child = place.start(&["train", "tiny.toml", "--out", "run", "--set", "train.epochs=100000"]);
    // Interrupts the run after the first epoch is in the log.
    let begun = Instant::now();
    let log = place.path("run/log.jsonl");
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("\"event\":\"epoch\"")) {
        assert!(
            child.try_wait().unwrap().is_none() && begun.elapsed() < LIMIT,
            "the run did not finish an epoch in time"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("--resume"), "{text}");
    place.run(&["train", "tiny.toml", "--out", "run", "--resume", "--set", "train.epochs=1"]).succeeds();
}
