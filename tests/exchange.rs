//! Exchange of weights with other programs and runs: import, export, fine-tuning.

use burn::tensor::Device;
use foveal_coco::CategoryInfo;
use foveal_detector::{
    CheckpointMeta, ClassChannels, ModelConfig, PostprocessConfig, TorchvisionArch, torchvision_preprocess,
};
use serde_json::{Value, json};

use crate::support::Workplace;

const CHECKPOINT: &str = "run/checkpoints/last.safetensors";
const CLASS_LAYER: [&str; 2] =
    ["head.classification_head.cls_logits.bias", "head.classification_head.cls_logits.weight"];

/// The tensor names in a list of `weights.json`.
fn names(fates: &Value, key: &str) -> Vec<String> {
    fates[key].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn fine_tuning_on_other_classes_loads_all_weights_except_the_class_layer() {
    let place = Workplace::new();
    place.train();
    let weights = format!("model.weights={CHECKPOINT}");
    // With the same classes, all weights are loaded.
    let same = place.run(&["train", "tiny.toml", "--out", "same", "--set", &weights]).succeeds();
    let fates = place.json("same/weights.json");
    assert_eq!((names(&fates, "rebuilt").len(), names(&fates, "left").len()), (0, 0), "{}", same.stderr);
    let all = names(&fates, "loaded").len();

    // Other classes: three instead of two, with other names.
    for set in ["train", "val"] {
        let mut value = place.json(&format!("{set}.json"));
        value["categories"] = json!([{"id": 3, "name": "x"}, {"id": 70, "name": "y"}, {"id": 71, "name": "z"}]);
        place.write(&format!("{set}.json"), value.to_string());
    }
    let other = place.run(&["train", "tiny.toml", "--out", "other", "--set", &weights]).succeeds();
    assert!(other.stderr.contains("2 newly initialised (head.classification_head.cls_logits"), "{}", other.stderr);
    let fates = place.json("other/weights.json");
    assert_eq!(
        (names(&fates, "rebuilt"), names(&fates, "left")),
        (CLASS_LAYER.map(String::from).to_vec(), CLASS_LAYER.map(String::from).to_vec())
    );
    assert_eq!(names(&fates, "loaded").len(), all - 2);

    // A difference that the shapes do not reveal causes a warning.
    let arguments = ["train", "tiny.toml", "--out", "c5", "--set", &weights, "--set", "model.norm_eps=0.001"];
    let run = place.run(&arguments).succeeds();
    assert!(run.stderr.contains("model.norm_eps is 0.001"), "{}", run.stderr);
}

#[test]
fn exports_are_verified() {
    let place = Workplace::new();
    place.train();
    for (file, half) in [("w.safetensors", false), ("w.pth", false), ("half.safetensors", true), ("half.pt", true)] {
        let mut arguments = vec!["export", CHECKPOINT, "--format", "safetensors", "-o", file];
        arguments.extend(half.then_some("--half"));
        let run = place.run(&arguments).succeeds();
        assert!(run.stderr.contains("written and verified"), "{}", run.stderr);
    }
    let size = |name: &str| std::fs::metadata(place.path(name)).unwrap().len();
    assert!(size("half.safetensors") < size("w.safetensors") * 6 / 10);
    place
        .run(&["export", CHECKPOINT, "--format", "torchvision", "-o", "t.pth"])
        .fails(1, &["retinanet_resnet50_fpn", "resnet18"]);
    assert!(!place.path("t.pth").exists());
}

#[test]
fn import_refuses_other_files() {
    let place = Workplace::new();
    place.train();
    let import = |file: &str, words: &[&str]| {
        let arguments = ["import", file, "--arch", "retinanet_resnet50_fpn", "-o", "c.safetensors"];
        place.run(&arguments).fails(1, words);
        assert!(!place.path("c.safetensors").exists());
    };
    import("none.pth", &["none.pth"]);
    place.write("byte.pth", "x");
    import("byte.pth", &["byte.pth", "expected"]);
    place.write("text.pth", "these are no weights at all, but a text");
    import("text.pth", &["text.pth", "expected"]);
    import("images/1.png", &["1.png", "expected"]);
    // A checkpoint of another detector.
    import(CHECKPOINT, &["last.safetensors", "running_mean"]);
    let arguments = ["import", CHECKPOINT, "--arch", "retinanet", "-o", "c.safetensors"];
    place.run(&arguments).fails(2, &["retinanet_resnet50_fpn_v2"]);
    let bad = ["import", CHECKPOINT, "--arch", "retinanet_resnet50_fpn", "--norm-eps", "nan", "-o", "c.safetensors"];
    place.run(&bad).fails(2, &["--norm-eps"]);
}

/// Uses a network of torchvision's size (130 MB), because `--arch` accepts no other.
#[test]
fn a_detector_exported_to_torchvision_and_imported_again_is_the_same() {
    let place = Workplace::new();
    let channels = ClassChannels { count: 3, of_class: vec![1, 2] };
    let model = ModelConfig { class_channels: Some(channels), ..TorchvisionArch::V1.model() };
    let network = model.seeded(2, 0, &Device::flex());
    let categories =
        ["class_1", "class_2"].into_iter().zip(1..).map(|(name, id)| CategoryInfo { id, name: name.into() });
    let meta = CheckpointMeta::new(model, categories.collect(), torchvision_preprocess(), PostprocessConfig::default());
    meta.save(&network, &place.path("own.safetensors")).unwrap();
    place.run(&["export", "own.safetensors", "--format", "torchvision", "-o", "w.pth"]).succeeds();
    let import = ["import", "w.pth", "--arch", "retinanet_resnet50_fpn", "-o", "back.safetensors"];
    assert!(place.run(&import).succeeds().stderr.contains("2 categories (class_1, class_2"), "said");
    let predict = |checkpoint: &str| {
        let small = ["--set", "data.min_size=64", "--set", "data.max_size=64", "--set", "eval.max_detections=20"];
        let arguments = ["predict", checkpoint, "images/1.png", "--json", "-", "--set", "eval.score_threshold=0.0001"];
        place.run(&[&arguments[..], &small].concat()).succeeds().json()
    };
    let (own, back) = (predict("own.safetensors"), predict("back.safetensors"));
    assert_eq!(own[0]["detections"].as_array().unwrap().len(), 20, "{own}");
    assert_eq!(own, back);
}
