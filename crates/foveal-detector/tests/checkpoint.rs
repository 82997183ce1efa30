//! The checkpoint file: a loaded checkpoint equals the saved one, and damaged files are reported.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use foveal_backbone::{BackboneKind, BackboneNorm, Body};
use foveal_coco::CategoryInfo;
use foveal_detector::{
    Checkpoint, CheckpointMeta, Counters, Detector, DetectorError, ModelConfig, PostprocessConfig, Precision,
    RetinaNet, TorchvisionArch, export_weights, torchvision_note, verify_weights,
};
use foveal_image::{Preprocess, RgbImage};
use foveal_weights::{load_tensors, named_tensors, read_weight_file};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn config() -> ModelConfig {
    ModelConfig {
        backbone: BackboneKind::ResNet18,
        base_width: 8,
        fpn_channels: 8,
        norm: BackboneNorm::Batch,
        ..ModelConfig::default()
    }
}

fn meta() -> CheckpointMeta {
    let categories = vec![CategoryInfo { id: 7, name: "ü".into() }, CategoryInfo { id: 9, name: "b".into() }];
    let preprocess = Preprocess { min_size: 64, max_size: 96, ..Preprocess::default() };
    CheckpointMeta::new(
        config(),
        categories,
        preprocess,
        PostprocessConfig { score_threshold: 0.001, ..PostprocessConfig::default() },
    )
}

fn saved(dir: &Path) -> PathBuf {
    let path = dir.join("c.safetensors");
    meta().save(&config().build(2, 5, &Device::flex()).unwrap().model, &path).unwrap();
    path
}

#[test]
fn a_round_trip_keeps_answers_metadata_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path());
    let device = Device::flex();
    let loaded = Checkpoint::load(&path, &device).unwrap();
    let original = config().build(2, 5, &device).unwrap().model.valid();
    let x = Tensor::<4>::ones([1, 3, 64, 96], &device);
    assert_eq!(original.forward(x.clone()).logits.into_data(), loaded.model.forward(x).logits.into_data());
    assert_eq!(CheckpointMeta { checksum: String::new(), ..loaded.meta.clone() }, meta());
    let again = dir.path().join("d.safetensors");
    loaded.meta.save(&loaded.model, &again).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&again).unwrap());
}

#[test]
fn thresholds_of_classes_come_back_and_hold_for_their_class() {
    let (dir, device) = (tempfile::tempdir().unwrap(), Device::flex());
    let path = saved(dir.path());
    let plain = Checkpoint::load(&path, &device).unwrap();
    assert!(!String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains("class_thresholds"));
    let image = RgbImage::from_fn(90, 64, |x, y| [(x * 2) as u8, (y * 3) as u8, 90].into());
    let detect = |checkpoint: Checkpoint| Detector::new(checkpoint, &device).detect(&image).unwrap();
    let all = detect(Checkpoint::load(&path, &device).unwrap());
    let middle = all[all.len() / 2].detection.score;
    let save = |class_thresholds: Vec<f32>| {
        CheckpointMeta { class_thresholds, ..plain.meta.clone() }.save(&plain.model, &path).unwrap();
        Checkpoint::load(&path, &device)
    };
    let some = detect(save(vec![1.0, middle]).unwrap());
    let expected: Vec<_> =
        all.iter().filter(|p| p.detection.class == 1 && p.detection.score > middle).cloned().collect();
    assert_eq!(some, expected);
    for (wrong, word) in [(vec![0.5], "1 values"), (vec![0.5, 1.5], "1.5"), (vec![0.5, -0.1], "-0.1")] {
        let error = save(wrong).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("class_thresholds"), "{error}");
    }
}

#[test]
fn factors_of_levels_come_back_and_are_refused_for_torchvision() {
    const NAME: &str = "head.regression_head.level_scales";
    let (dir, device) = (tempfile::tempdir().unwrap(), Device::flex());
    let with_scales = |mut config: ModelConfig| {
        config.head.level_scales = true;
        config
    };
    let meta = CheckpointMeta { model: with_scales(config()), ..meta() };
    let network = meta.model.build(2, 5, &device).unwrap().model;
    let mut tensors = named_tensors(&network);
    assert_eq!((&tensors[NAME].shape, &tensors[NAME].values), (&vec![5], &vec![1.0; 5]));
    tensors.get_mut(NAME).unwrap().values = vec![0.5, 2.0, 1.5, 0.25, 3.0];
    let (network, _) = load_tensors(network, &tensors);
    let path = dir.path().join("c.safetensors");
    meta.save(&network, &path).unwrap();
    let loaded = Checkpoint::load(&path, &device).unwrap();
    let deltas = |network: &RetinaNet| network.forward(Tensor::ones([1, 3, 64, 96], &device)).deltas.into_data();
    assert_eq!(deltas(&loaded.model), deltas(&network.valid()));
    assert_ne!(deltas(&loaded.model), deltas(&config().build(2, 5, &device).unwrap().model.valid()));

    // Weights alone.
    let weights = dir.path().join("w.safetensors");
    export_weights(&loaded, &weights, Precision::F32, Counters::LeftOut).unwrap();
    verify_weights(&loaded, &weights, Precision::F32).unwrap();
    assert_eq!(read_weight_file(&weights).unwrap().tensors[NAME], tensors[NAME]);

    // A network with the other settings of torchvision's differs in the factors alone.
    let torchvision = |model| Checkpoint { meta: CheckpointMeta { model, ..meta.clone() }, model: network.clone() };
    let plain = TorchvisionArch::V1.model();
    torchvision_note(&torchvision(plain.clone()), &weights).unwrap();
    let error = torchvision_note(&torchvision(with_scales(plain)), &weights).unwrap_err().to_string();
    assert!(error.contains("model.head.level_scales") && error.contains("--format safetensors"), "{error}");

    // A run that starts from the checkpoint without factors says so.
    let without = ModelConfig { weights: Some(path), ..config() };
    let built = without.build(2, 5, &device).unwrap();
    assert_eq!(built.differences, ["model.head.level_scales is false, but true in the checkpoint"]);
    assert!(built.report.unwrap().unused.contains(&NAME.to_owned()));
}

#[test]
fn a_checkpoint_alone_detects() {
    let dir = tempfile::tempdir().unwrap();
    let detector = Detector::open(&saved(dir.path()), &Device::flex()).unwrap();
    let found = detector.detect(&RgbImage::from_pixel(50, 100, image::Rgb([200, 10, 10]))).unwrap();
    assert!(!found.is_empty());
    for p in &found {
        let b = p.detection.bbox;
        assert!(b.x1 >= 0.0 && b.y1 >= 0.0 && b.x2 <= 50.01 && b.y2 <= 100.01, "{b:?}");
        assert_eq!(p.category.id, if p.detection.class == 0 { 7 } else { 9 });
    }
    assert!(found.is_sorted_by(|a, b| a.detection.score >= b.detection.score));
    let error = detector.detect(&RgbImage::new(0, 7)).unwrap_err().to_string();
    assert!(error.contains("0 x 7"), "{error}");
}

#[test]
fn damage_and_foreign_files_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let message = |bytes: &[u8]| {
        let path = dir.path().join("bad.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let error = Checkpoint::load(&path, &Device::flex()).unwrap_err().to_string();
        assert!(error.contains("bad.safetensors"), "{error}");
        error
    };
    let mut flipped = whole.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    assert!(message(&flipped).contains("checksum"));
    assert!(message(&whole[..whole.len() / 2]).contains("safetensors"));
    assert!(message(b"").contains("safetensors"));
    assert!(message(b"\x02\0\0\0\0\0\0\0{}").contains("plain weights"));
    let version = br#"{\"format\":2"#;
    let at = whole.windows(version.len()).position(|w| w == version).expect("version in the header");
    let mut newer = whole.clone();
    newer[at + version.len() - 1] = b'9';
    assert!(message(&newer).contains("newer foveal"));
    assert!(matches!(Checkpoint::load(Path::new("none"), &Device::flex()), Err(DetectorError::Io { .. })));
}

/// The checksum of files of format 1.
fn tensor_checksum(bytes: &[u8]) -> String {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let mut tensors: Vec<_> = file.iter().collect();
    tensors.sort_by_key(|(name, _)| *name);
    let mut hash = Sha256::new();
    for (name, view) in tensors {
        for part in [name.as_bytes(), view.data()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A checkpoint file of format 1 with changed metadata.
fn edited(dir: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    rewritten(dir, std::fs::read(saved(dir)).unwrap(), change)
}

/// A checkpoint file of format 1 with the tensors of the file `bytes` and changed metadata.
fn rewritten(dir: &Path, bytes: Vec<u8>, change: impl FnOnce(&mut Value)) -> PathBuf {
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    let mut json: Value = serde_json::from_str(&metadata["foveal"]).unwrap();
    // Format 1, whose checksum does not cover the metadata.
    (json["format"], json["checksum"]) = (1.into(), tensor_checksum(&bytes).into());
    change(&mut json);
    metadata.insert("foveal".into(), json.to_string());
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let path = dir.join("edited.safetensors");
    std::fs::write(&path, safetensors::serialize(file.iter(), Some(metadata)).unwrap()).unwrap();
    path
}

/// A checkpoint file of format 1 with this text in place of the value of `base_width`.
fn replaced(dir: &Path, text: &str) -> PathBuf {
    let bytes = std::fs::read(edited(dir, |json| json["model"]["base_width"] = json!("here"))).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    let json = metadata["foveal"].replace("\"here\"", text);
    metadata.insert("foveal".into(), json);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let path = dir.join("replaced.safetensors");
    std::fs::write(&path, safetensors::serialize(file.iter(), Some(metadata)).unwrap()).unwrap();
    path
}

#[test]
fn files_without_the_fields_that_came_later_stay_readable() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::flex();
    // The first files of version 0.1.0 lack these keys.
    let path = edited(dir.path(), |json| {
        json.as_object_mut().unwrap().remove("loss");
        for later in ["class_channels", "norm_eps", "weights_convention"] {
            json["model"].as_object_mut().unwrap().remove(later);
        }
        json["model"]["head"].as_object_mut().unwrap().remove("level_scales").unwrap();
    });
    let old = Checkpoint::load(&path, &device).unwrap();
    assert_eq!(CheckpointMeta { format: meta().format, checksum: String::new(), ..old.meta }, meta());
    let new = Checkpoint::load(&saved(dir.path()), &device).unwrap();
    let x = Tensor::<4>::ones([1, 3, 64, 64], &device);
    assert_eq!(old.model.forward(x.clone()).logits.into_data(), new.model.forward(x).logits.into_data());
}

#[test]
fn a_configuration_that_asks_for_more_than_the_file_holds_is_refused_before_it_is_built() {
    let dir = tempfile::tempdir().unwrap();
    for (section, key, value) in [
        ("model", "base_width", json!(4_000_000_000_000u64)),
        ("model", "fpn_channels", json!(1_000_000)),
        ("model", "backbone", json!("resnet152")),
        ("model", "class_channels", json!({"count": 1_000_000_000_000u64, "of_class": [0, 1]})),
        ("head", "convs", json!(1_000_000)),
        ("anchors", "scales", json!(1_000_000_000)),
    ] {
        let change = |json: &mut Value| match section {
            "model" => json["model"][key] = value,
            section => json["model"][section][key] = value,
        };
        let path = edited(dir.path(), change);
        let text = Checkpoint::load(&path, &Device::flex()).unwrap_err().to_string();
        assert!(
            text.contains("edited.safetensors") && text.contains("values for a network of at least"),
            "{key}: {text}"
        );
    }
    // Settings that no network can have, in files that are large enough for the rest.
    for (pointer, value, word) in [
        ("/model/base_width", json!(0), "base_width"),
        ("/model/base_width", json!(1), "base_width"),
        ("/model/head/groups", json!(0), "head.groups"),
        ("/model/anchors/ratios", json!([]), "ratios"),
        ("/model/anchors/base_sizes", json!([1, 2]), "base_sizes"),
        ("/model/fpn_channels", json!(0), "fpn_channels"),
        ("/model/class_channels", json!({"count": 2, "of_class": [0, 9]}), "class_channels"),
        ("/model/class_channels", json!({"count": u64::MAX, "of_class": [0, 1]}), "values for a network of at least"),
        ("/model/anchors/scales", json!(u64::MAX), "values for a network of at least"),
        ("/preprocess/fixed_size", json!([u32::MAX, u32::MAX]), "fixed_size"),
        ("/preprocess/min_size", json!(u32::MAX), "min_size"),
    ] {
        let change = |json: &mut Value| {
            // Groups matter only with group norm.
            if pointer.ends_with("groups") {
                json["model"]["head"]["norm"] = json!("group");
            }
            let (section, key) = pointer.rsplit_once('/').unwrap();
            json.pointer_mut(section).unwrap()[key] = value;
        };
        let path = edited(dir.path(), change);
        let text = Checkpoint::load(&path, &Device::flex()).unwrap_err().to_string();
        assert!(text.contains("edited.safetensors") && text.contains(word), "{pointer}: {text}");
    }
    // Numbers beyond 64 bits, and JSON that is nested deeply.
    let nested = (0..100_000).fold(String::new(), |text, _| text + "[");
    for text in ["1e400", "18446744073709551616", "-1", &nested] {
        let path = replaced(dir.path(), text);
        let text = Checkpoint::load(&path, &Device::flex()).unwrap_err().to_string();
        assert!(text.contains("replaced.safetensors") && text.contains("unreadable metadata"), "{text}");
    }
    let path = edited(dir.path(), |json| json["preprocess"]["std"] = json!([0, 1, 1]));
    let text = Checkpoint::load(&path, &Device::flex()).unwrap_err().to_string();
    assert!(text.contains("edited.safetensors") && text.contains("std"), "{text}");
}

#[test]
fn a_value_that_is_not_finite_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let name = "head.classification_head.cls_logits.bias";
    let device = Device::flex();
    let mut model = config().build(2, 5, &device).unwrap().model;
    let bias = model.head.classification_head.cls_logits.bias.take().unwrap();
    model.head.classification_head.cls_logits.bias = Some(bias.map(|b| b / 0.0));
    let path = saved(dir.path());
    let before = std::fs::read(&path).unwrap();
    let text = meta().save(&model, &path).unwrap_err().to_string();
    assert!(text.contains("c.safetensors") && text.contains(name), "{text}");
    assert!(std::fs::read(&path).unwrap() == before, "the file was overwritten");

    // A file that another program wrote.
    let mut bytes = before;
    let place = {
        let file = SafeTensors::deserialize(&bytes).unwrap();
        file.tensor(name).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let path = rewritten(dir.path(), bytes, |_| {});
    let text = Checkpoint::load(&path, &device).unwrap_err().to_string();
    assert!(text.contains("edited.safetensors") && text.contains(name), "{text}");
}

/// Finite weights, whose products exceed the largest number in single precision.
#[test]
fn an_output_that_is_not_finite_is_an_error() {
    let device = Device::flex();
    let mut model = config().build(2, 5, &device).unwrap().model;
    let weight = model.head.classification_head.cls_logits.weight.clone();
    model.head.classification_head.cls_logits.weight = weight.map(|w| w * 0.0 + 3e38);
    let bias = model.head.classification_head.cls_logits.bias.take().unwrap();
    model.head.classification_head.cls_logits.bias = Some(bias.map(|b| b * 0.0 + 3.4e38));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.safetensors");
    meta().save(&model, &path).unwrap();
    let error = Detector::open(&path, &device).unwrap().detect(&RgbImage::from_pixel(50, 100, image::Rgb([200; 3])));
    assert!(matches!(error, Err(DetectorError::NonFinite(_))), "{error:?}");
}

#[test]
fn numbers_that_no_network_has_are_refused() {
    for (change, key) in [
        ((|c| c.base_width = usize::MAX - 7) as fn(&mut ModelConfig), "base_width"),
        (|c| c.fpn_channels = 1 << 40, "fpn_channels"),
        (|c| c.head.convs = 1 << 40, "head.convs"),
        (|c| c.anchors.scales = 1 << 40, "anchors.scales"),
        (|c| c.anchors.ratios = vec![1.0; 5000], "anchors.ratios"),
        (|c| c.anchors.base_sizes[4] = 1e30, "anchors.base_sizes"),
        (|c| (c.base_width, c.backbone) = (1024, BackboneKind::ResNet152), "base_width"),
    ] {
        let mut config = config();
        change(&mut config);
        let error = config.validate().unwrap_err();
        assert_eq!(error.key, key, "{error}");
    }
}

#[test]
fn contradictions_in_the_config_are_errors() {
    let build = |c: ModelConfig| c.build(2, 0, &Device::flex()).map(|_| ()).unwrap_err().to_string();
    assert!(build(ModelConfig { norm: BackboneNorm::FrozenBatch, ..config() }).contains("model.weights"));
    let fixed = build(ModelConfig { norm: BackboneNorm::FrozenStatistics, ..config() });
    assert!(fixed.contains("model.norm = \"frozen_statistics\"") && fixed.contains("model.weights"), "{fixed}");
    assert!(build(ModelConfig { freeze_stages: 6, ..config() }).contains("model.freeze_stages"));
}

/// Scale and shift are trained except in the frozen stem, and a forward pass leaves the statistics of the checkpoint.
#[test]
fn fixed_statistics_come_from_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let weights = Some(saved(dir.path()));
    let config = ModelConfig { norm: BackboneNorm::FrozenStatistics, weights, freeze_stages: 1, ..config() };
    let built = config.build(2, 0, &Device::flex().autodiff()).unwrap();
    assert_eq!(built.config.live_norms, Vec::<String>::new());
    assert_eq!(built.differences, ["model.norm is FrozenStatistics, but Batch in the checkpoint"]);
    let Body::ResNet(net) = &built.model.backbone.body;
    assert!(!net.bn1.weight.is_require_grad() && !net.bn1.bias.is_require_grad());
    let norm = &net.layer1[0].bn1;
    assert!(norm.weight.is_require_grad() && norm.bias.is_require_grad());
    assert!((0..4).all(|stage| !net.keeps_statistics(stage)));
}
