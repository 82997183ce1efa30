//! Steps with a planted fault: each is not finite, comes back from its files, gives the same values when it is run
//! again, and its fault is named.

use std::path::Path;

use burn::tensor::Device;
use foveal_backbone::{BackboneKind, BackboneNorm};
use foveal_criterion::{ClassLossKind, ClassWeights, Normalizer};
use foveal_detector::ComputePrecision::F32;
use foveal_detector::image_tensor;
use foveal_weights::{TensorMap, load_tensors, named_tensors};

use super::*;
use crate::error::TrainError;
use crate::run::{BadStep, RunDir, StateMeta, Step};
use crate::testing::{first_batch, tiny};
use crate::update::{GradientOptions, Learner, Optimizer};

/// Number of classes of the tiny data set.
const CLASSES: usize = 3;

#[allow(deprecated, reason = "ndarray stays supported here")]
fn devices() -> [Device; 2] {
    [Device::flex(), Device::ndarray()]
}

/// Runs a step on the first training batch with what `plant` changes, and records it.
fn record(config: &RunConfig, device: &Device, plant: impl Fn(&mut TensorMap, &mut RecordedBatch)) -> BlackBox {
    let device = device.clone().autodiff();
    let batch = first_batch(config);
    let image = |info: &foveal_data::ImageInfo| RecordedImage {
        image_id: info.image_id,
        index: info.index,
        file: Some(format!("{}.png", info.image_id)),
        batch: Some(0),
    };
    let images: Vec<RecordedImage> = batch.info.iter().map(image).collect();
    let mut batch = RecordedBatch::from(batch);
    let mut model = config.model.seeded(CLASSES, 0, &device);
    model.backbone.body = model.backbone.body.freeze_stages(config.model.freeze_stages);
    let mut weights = named_tensors(&model);
    plant(&mut weights, &mut batch);
    let learner = Learner::new(load_tensors(model, &weights).0, Optimizer::new(&config.train), None);
    let normalizer = Normalizer::of(config.loss.normalizer, &batch.targets);
    let options = GradientOptions {
        loss: &config.loss,
        normalizer,
        anchors_per_location: config.model.anchors.anchors_per_location(),
        activations: config.train.activations(),
        breakdown: true,
        first_loss: None,
        clip_norm: 0.0,
    };
    let input = (image_tensor(batch.images.clone(), &device), batch.targets.clone());
    let gradients = learner.gradients([input], &options, &device);
    let step = Step {
        step: 7,
        epoch: 2,
        lr: 0.1,
        positives: gradients.positives,
        objects: foveal_data::ObjectCounts::default(),
        images: images.iter().map(|image| image.image_id).collect(),
        first_batch: 3,
        normalizer,
        values: gradients.values.clone(),
        scale: None,
        breakdown: None,
    };
    let values: Vec<f32> = gradients.values.into_data().try_to_vec().unwrap();
    let bad = BadStep { step, values: values.try_into().unwrap(), scale: None };
    let meta = StateMeta::start(0, config.model.clone(), Vec::new());
    let report = Report { images, ..Report::new(&bad, &meta, CLASSES, &device) };
    BlackBox { report, config: config.clone(), weights, batches: vec![batch] }
}

/// Records the step, writes and reads its black box, and runs it again. Asserts that it was caught and that the replay
/// has the same values.
fn replay(config: &RunConfig, device: &Device, plant: impl Fn(&mut TensorMap, &mut RecordedBatch)) -> Replay {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(&dir.path().join("r")).unwrap();
    let mut recorded = record(config, device, plant);
    assert!(!recorded.report.losses.is_finite(), "{:?}", recorded.report.losses);
    let finding = recorded.examine(device).unwrap();
    let folder = recorded.save(&run).unwrap();
    let read = BlackBox::load(run.root()).unwrap();
    assert_eq!((&read.report, read.report.finding.as_ref()), (&recorded.report, Some(&finding)));
    assert_eq!(BlackBox::load(&folder).unwrap().report, read.report);
    let replay = read.replay(run.root(), device).unwrap();
    assert!(replay.identical && replay.same_device, "{:?} {:?}", replay.losses, recorded.report.losses);
    assert_eq!(replay.finding, finding);
    let text = [finding.to_string(), finding.cause(F32), finding.remedy(F32)];
    assert!(text.iter().all(|text| text.len() > 20), "{text:?}");
    replay
}

fn with_backbone(kind: BackboneKind) -> RunConfig {
    let mut config = tiny();
    config.model.backbone = kind;
    config
}

/// Sets the first value of a tensor.
fn set(weights: &mut TensorMap, name: &str, value: f32) {
    weights.get_mut(name).unwrap_or_else(|| panic!("no tensor {name}")).values[0] = value;
}

#[test]
fn a_weight_that_is_not_finite_names_its_layer() {
    let layers = ["backbone.body.conv1", "backbone.body.layer2.0.conv2", "backbone.fpn.inner_blocks.1.0"];
    for device in devices() {
        for kind in [BackboneKind::ResNet18, BackboneKind::ResNet50] {
            for layer in layers {
                let name = format!("{layer}.weight");
                let replay = replay(&with_backbone(kind), &device, |weights, _| set(weights, &name, f32::NAN));
                let Finding::Weights { layer: found, tensors } = &replay.finding else {
                    panic!("{:?}", replay.finding)
                };
                assert_eq!((found.as_str(), tensors.len(), tensors[0].stats.nan), (layer, 1, 1));
                assert_eq!(tensors[0].name, name);
                let broken: Vec<&str> = replay.broken_tensors.iter().map(|t| t.name.as_str()).collect();
                assert_eq!(broken, [name.as_str()]);
                assert!(replay.finding.to_string().contains("1 of"), "{}", replay.finding);
                assert!(replay.finding.remedy(F32).contains("weight file"), "{}", replay.finding.remedy(F32));
            }
        }
    }
}

#[test]
fn heads_and_norms_are_layers_too() {
    let frozen = |name: &'static str| {
        let mut config = tiny();
        config.model.norm = BackboneNorm::FrozenBatch;
        replay(&config, &Device::flex(), |weights, _| set(weights, name, f32::INFINITY)).finding
    };
    let bias = "head.regression_head.bbox_reg.bias";
    // Infinite weights are left by an update that is too large, NaN by a file.
    assert!(frozen(bias).cause(F32).contains("learning rate") && frozen(bias).remedy(F32).contains("train.lr"));
    assert_eq!(frozen(bias).layer(), Some("head.regression_head.bbox_reg"));
    assert_eq!(frozen("backbone.body.layer3.1.bn2.bias").layer(), Some("backbone.body.layer3.1.bn2"));
    let mut config = tiny();
    config.model.norm = BackboneNorm::Batch;
    let found =
        replay(&config, &Device::flex(), |weights, _| set(weights, "backbone.body.bn1.weight", f32::NAN)).finding;
    assert_eq!(found.layer(), Some("backbone.body.bn1"));
}

#[test]
fn a_pixel_that_is_not_finite_names_its_image() {
    for device in devices() {
        for kind in [BackboneKind::ResNet18, BackboneKind::ResNet50] {
            let config = with_backbone(kind);
            let found = replay(&config, &device, |_, batch| {
                // The last pixel of the second image.
                *batch.images.data.last_mut().unwrap() = f32::NAN;
            });
            let second = first_batch(&config).info[1].image_id;
            let Finding::Image { image_id, values, file } = &found.finding else { panic!("{:?}", found.finding) };
            assert_eq!((*image_id, values.nan, file.clone()), (second, 1, Some(format!("{second}.png"))));
            assert_eq!(found.finding.layer(), None);
        }
    }
}

#[test]
fn an_overflow_names_the_layer_and_the_size_of_its_weights() {
    for activation_checkpointing in [false, true] {
        let mut config = tiny();
        config.train.activation_checkpointing = activation_checkpointing;
        let found = replay(&config, &Device::flex(), |weights, _| {
            let conv = weights.get_mut("backbone.fpn.layer_blocks.0.0.weight").unwrap();
            conv.values.iter_mut().for_each(|value| *value *= 1e38);
        });
        let Finding::Layer { layer, largest_weight, .. } = &found.finding else { panic!("{:?}", found.finding) };
        assert_eq!(layer, "backbone.fpn.layer_blocks.0.0");
        assert!(
            *largest_weight > 1e36 && found.finding.cause(F32).contains("learning rate"),
            "{}",
            found.finding.cause(F32)
        );
        // Layers before it have statistics that are finite, with gradients by name.
        let layers = &found.batches[0].layers;
        let first = &layers[0];
        assert_eq!((first.trace.name.as_str(), first.trace.output.non_finite()), ("backbone.body.conv1", 0));
        assert!(first.gradients.contains_key("backbone.body.conv1.weight"), "{:?}", first.gradients);
    }
}

#[test]
fn a_gradient_that_overflows_names_the_layer_where_it_began() {
    let mut config = tiny();
    (config.loss.kind, config.loss.class_weights) =
        (ClassLossKind::CrossEntropy, ClassWeights::Each(vec![1e4; CLASSES]));
    let found = replay(&config, &Device::flex(), |weights, _| {
        let mut fill = |name: &str, value: f32| {
            weights.get_mut(&format!("head.classification_head.{name}")).unwrap().values.fill(value);
        };
        // Activations of 1e37 in front of a class layer whose weights are zero: logits are zero, gradients are not.
        fill("conv.0.0.weight", 0.0);
        fill("conv.0.0.bias", 1e37);
        fill("cls_logits.weight", 0.0);
        fill("cls_logits.bias", 0.0);
    });
    let Finding::Gradient { layer, tensor, .. } = &found.finding else { panic!("{:?}", found.finding) };
    assert_eq!(layer, "head.classification_head.cls_logits");
    assert_eq!(tensor, "head.classification_head.cls_logits.weight");
    assert!(found.losses.class.0.is_finite() && !found.losses.grad_norm.0.is_finite());
}

#[test]
fn targets_and_losses_are_told_apart_from_layers() {
    let delta = replay(&tiny(), &Device::flex(), |_, batch| {
        let image = batch.targets.iter_mut().find(|targets| !targets.positives.is_empty()).unwrap();
        image.positives[0].delta.dw = f32::NEG_INFINITY;
    });
    assert!(matches!(delta.finding, Finding::Targets { .. }), "{:?}", delta.finding);
    let boxes = replay(&tiny(), &Device::flex(), |weights, _| {
        weights.get_mut("head.regression_head.bbox_reg.bias").unwrap().values.fill(3e38);
    });
    assert!(matches!(boxes.finding, Finding::Loss { part: LossPart::Box, .. }), "{:?}", boxes.finding);
}

#[test]
fn the_newest_two_are_kept_and_a_left_over_folder_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(&dir.path().join("r")).unwrap();
    let mut black_box =
        record(&tiny(), &Device::flex(), |weights, _| set(weights, "backbone.body.conv1.weight", f32::NAN));
    for step in 1..=3 {
        std::fs::create_dir_all(run.unfinished_black_box().join("left")).unwrap();
        black_box.report.step = step;
        black_box.save(&run).unwrap();
    }
    let step = |folder: &str| BlackBox::load(&run.root().join(folder)).unwrap().report.step;
    assert_eq!((step(""), step("blackbox"), step("blackbox-previous")), (3, 3, 2));
    let names = std::fs::read_dir(run.root()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.contains("blackbox")).collect();
    names.sort();
    assert_eq!(names, ["blackbox", "blackbox-previous"]);
}

#[test]
fn a_damaged_black_box_is_named_and_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(&dir.path().join("r")).unwrap();
    let none = BlackBox::load(run.root()).unwrap_err().to_string();
    assert!(none.contains("blackbox/report.json"), "{none}");
    let good = record(&tiny(), &Device::flex(), |weights, _| set(weights, "backbone.body.conv1.weight", f32::NAN));
    let folder = good.save(&run).unwrap();
    let change = |file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let path = folder.join(file);
        let before = std::fs::read(&path).unwrap();
        std::fs::write(&path, change(before.clone())).unwrap();
        let result = BlackBox::load(run.root()).and_then(|read| read.replay(run.root(), &Device::flex()));
        std::fs::write(&path, before).unwrap();
        let error = result.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(&run.root().display().to_string()) && error.contains("expected"), "{error}");
    };
    let text = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1).into_bytes()
        }
    };
    change("report.json", &text("\"format\": 1", "\"format\": 2"));
    change("report.json", &text("{", "["));
    change("report.json", &text("\"classes\": 3", "\"classes\": 2"));
    change("config.toml", &text("[train]", "[training]"));
    for file in ["weights.safetensors", "batch.safetensors"] {
        change(file, &|bytes| bytes[..bytes.len() - 5].to_vec());
        change(file, &|_| Vec::new());
    }
    // Targets of another image size.
    let mut other = good.clone();
    other.batches[0].targets[0].classes.pop();
    other.batches[0].targets[1].classes.pop();
    assert!(other.replay(Path::new("box"), &Device::flex()).is_err_and(|e| e.to_string().contains("anchors")));
    // A batch that could not be loaded again.
    let mut missing = BlackBox { batches: Vec::new(), ..good };
    missing.report.missing_batch = Some("gone.png: no such file".to_owned());
    missing.save(&run).unwrap();
    let error = BlackBox::load(run.root()).unwrap().replay(run.root(), &Device::flex()).unwrap_err();
    assert!(matches!(&error, TrainError::BlackBox { found, .. } if found.contains("gone.png")), "{error}");
}
