//! Steps with a loss that is not finite: the black box of a run, `foveal replay`, and `train.non_finite`.

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::support::Workplace;

/// Arguments that let the first update ruin the weights.
const EXPLODING: [&str; 4] = ["--set", "train.lr=1e30", "--set", "train.warmup_steps=0"];

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "tiny.toml", "--out", "run"], more].concat()
}

/// Replays the black box in `run` on a device and returns the JSON output.
fn replay(place: &Workplace, device: &str) -> Value {
    place.run_on(device, &["replay", "run", "--json", "-"]).succeeds().json()
}

#[test]
fn an_exploding_rate_is_kept_and_replayed_on_both_cpu_backends() {
    for (backbone, device, other) in [("resnet18", "flex", "ndarray"), ("resnet50", "ndarray", "flex")] {
        let place = Workplace::new();
        let set = format!("model.backbone={backbone}");
        let run = place.run_on(device, &train(&[&EXPLODING[..], &["--set", &set]].concat()));
        let said = run.stderr.clone();
        run.fails(1, &["step 2: the loss or its gradient is not finite", "is kept in", "foveal replay run"]);
        let report = place.json("run/blackbox/report.json");
        assert_eq!((&report["step"], &report["epoch"], &report["device"]), (&json!(2), &json!(1), &json!(device)));
        assert!(report["images"][0]["file"].as_str().unwrap().ends_with(".png"), "{report}");
        assert!(place.path("run/blackbox/config.toml").is_file());

        let again = replay(&place, device);
        assert_eq!((&again["identical"], &again["same_device"]), (&json!(true), &json!(true)), "{again}");
        assert_eq!(again["recorded"], again["replayed"]);
        assert_eq!(again["finding"], report["finding"]);
        let layer = again["layer"].as_str().unwrap();
        assert!(said.contains(layer), "{layer}: {said}");
        let layers = again["batches"][0]["layers"].as_array().unwrap();
        assert!(layers.iter().any(|l| l["name"] == *layer || l["norm"] == *layer), "{layer}");

        let text = place.run_on(device, &["replay", "run/blackbox"]).succeeds().stdout;
        for part in ["step 2, epoch 1", "The replay gives exactly the recorded values.", "finding: ", layer, "train.lr"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let weights = ["replay", "run", "--json", "run/blackbox/weights.safetensors"];
        place.run_on(device, &weights).fails(2, &["weights.safetensors"]);
        // Another device says that it is another one.
        let elsewhere = replay(&place, other);
        assert_eq!((&elsewhere["same_device"], &elsewhere["device"]), (&json!(false), &json!(other)));
        assert!(elsewhere["layer"].is_string(), "{elsewhere}");
    }
}

#[test]
fn a_planted_weight_is_named_with_its_layer() {
    let place = Workplace::new();
    place.run(&train(&EXPLODING)).fails(1, &["not finite"]);
    // A fresh network with a NaN in one tensor takes the place of the weights.
    place.run(&["train", "tiny.toml", "--out", "good"]).succeeds();
    let checkpoint = std::fs::read(place.path("good/checkpoints/last.safetensors")).unwrap();
    for tensor in ["backbone.body.layer2.1.conv1.weight", "head.classification_head.cls_logits.bias"] {
        let mut bytes = checkpoint.clone();
        let start = {
            let file = SafeTensors::deserialize(&bytes).unwrap();
            file.tensor(tensor).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize
        };
        bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        place.write("run/blackbox/weights.safetensors", bytes);
        let found = replay(&place, "flex");
        assert_eq!(found["finding"]["kind"], "weights", "{found}");
        let layer = tensor.rsplit_once('.').unwrap().0;
        assert_eq!((&found["layer"], &found["finding"]["tensors"][0]["name"]), (&json!(layer), &json!(tensor)));
        assert_eq!(found["broken_tensors"][0]["stats"]["nan"], 1);
    }
}

#[test]
fn a_folder_without_a_black_box_is_an_error() {
    let place = Workplace::new();
    place.train();
    place.run(&["replay", "run"]).fails(1, &["run: expected", "blackbox/report.json"]);
    place.run(&["replay", "nowhere"]).fails(1, &["nowhere"]);
    place.run(&["replay"]).fails(2, &["<DIR>"]);
}
