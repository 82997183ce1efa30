//! Compares features with torch's for files with the names of torchvision, timm and Detectron2, in torchvision's and
//! MSRA's convention. Golden values: scripts/reference/layouts.py.

mod formula;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use foveal_backbone::{BackboneKind, BackboneNorm, Body};
use foveal_nn::{Eager, Init};
use foveal_weights::{
    BackboneFile, HostTensor, LoadedBackbone, TensorMap, WeightsConvention, WeightsError, load_backbone, named_tensors,
};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;

const KIND: BackboneKind = BackboneKind::ResNet50;
const WIDTH: usize = 4;

fn network(convention: WeightsConvention, norm: BackboneNorm) -> Body {
    let net = Body::new(KIND, WIDTH, norm, &mut Init::seeded(1), &Device::flex());
    if convention.stride_in_1x1() { net.with_stride_in_1x1() } else { net }
}

/// The weights of layouts.py.
fn weights() -> TensorMap {
    let mut tensors = named_tensors(&network(WeightsConvention::Auto, BackboneNorm::FrozenBatch));
    formula::fill(&mut tensors);
    tensors
}

/// Converts a name of torchvision to Detectron2's.
fn detectron(name: &str) -> String {
    let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
    if parts[0].starts_with("layer") {
        let stage: usize = parts[0][5..].parse().unwrap();
        parts[0] = format!("res{}", stage + 1);
    } else {
        parts.insert(0, "stem".into());
    }
    let name = parts.join(".").replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm");
    ["1", "2", "3"].iter().fold(name, |name, i| name.replace(&format!("bn{i}"), &format!("conv{i}.norm")))
}

fn write(path: &Path, tensors: &TensorMap) {
    let bytes: Vec<(&String, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(k, t)| (k, t.shape.as_slice(), t.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(k, s, b)| (k.as_str(), TensorView::new(Dtype::F32, s.to_vec(), b).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Writes the tensors to a file under other names and loads it as a ResNet-50.
fn load(
    tensors: &TensorMap,
    name: impl Fn(&str) -> String,
    convention: WeightsConvention,
) -> Result<LoadedBackbone, String> {
    let renamed = tensors.iter().map(|(k, t)| (name(k), t.clone())).collect();
    load_as(&renamed, convention, BackboneNorm::FrozenBatch).map_err(|e| e.to_string())
}

fn load_as(
    tensors: &TensorMap,
    convention: WeightsConvention,
    norm: BackboneNorm,
) -> Result<LoadedBackbone, WeightsError> {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("w.safetensors");
    write(&path, tensors);
    let file = BackboneFile { path: &path, kind: KIND, norm, convention, input_std: formula::STD };
    load_backbone(network(convention, norm), &file)
}

/// Checks C5 against torch's within 1e-4 of its largest value: both sum in f32, in different orders.
#[track_caller]
fn same(body: &Body, golden: &str) {
    let all: Value = serde_json::from_str(include_str!("fixtures/layouts.json")).unwrap();
    let expected: Vec<f32> = all[golden].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    let found = body.forward(&mut Eager, formula::image(&Device::flex())).c5.into_data().try_to_vec::<f32>().unwrap();
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-4 * largest, "{golden}: {worst} of {largest}");
}

/// The stem of layouts.py's MSRA network.
fn msra() -> TensorMap {
    let mut tensors = weights();
    for value in &mut tensors.get_mut("conv1.weight").unwrap().values {
        *value /= 64.0;
    }
    tensors
}

#[test]
fn torchvisions_and_timms_names_give_torchs_features_under_any_prefix() {
    for prefix in ["", "module.", "backbone.body.", "encoder.", "model.visual."] {
        let loaded = load(&weights(), |name| format!("{prefix}{name}"), WeightsConvention::Auto).unwrap();
        assert!(loaded.report.missing.is_empty() && loaded.norms_without_statistics.is_empty());
        same(&loaded.body, "torchvision");
    }
}

#[test]
fn detectrons_names_give_torchs_features_in_the_convention_that_is_said() {
    let name = |name: &str| format!("backbone.bottom_up.{}", detectron(name));
    let loaded = load(&weights(), name, WeightsConvention::Torchvision).unwrap();
    same(&loaded.body, "torchvision");
    let loaded = load(&msra(), name, WeightsConvention::Msra).unwrap();
    assert!(loaded.report.missing.is_empty() && loaded.report.unused.is_empty());
    same(&loaded.body, "msra");
    // Caffe's weights under torchvision's names, as OpenMMLab publishes them.
    same(&load(&msra(), str::to_owned, WeightsConvention::Msra).unwrap().body, "msra");
}

#[test]
fn detectrons_names_alone_are_refused() {
    let text = load(&weights(), detectron, WeightsConvention::Auto).unwrap_err();
    for word in ["w.safetensors", "resnet50", "Detectron2", "model.weights_convention = \"msra\"", "STRIDE_IN_1X1"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn other_networks_are_refused_by_names_and_shapes() {
    let spoiled = |change: &dyn Fn(&mut TensorMap)| {
        let mut tensors = weights();
        change(&mut tensors);
        load(&tensors, str::to_owned, WeightsConvention::Auto).unwrap_err()
    };
    // A group convolution, as in ResNeXt.
    let grouped = spoiled(&|t| {
        let conv = t.get_mut("layer2.0.conv2.weight").unwrap();
        (conv.shape, conv.values) = (vec![8, 1, 3, 3], vec![0.0; 72]);
    });
    assert!(grouped.contains("layer2.0.conv2.weight of shape [8, 1, 3, 3] instead of [8, 8, 3, 3]"), "{grouped}");
    let renamed = spoiled(&|t| {
        let conv = t.remove("layer3.1.conv2.weight").unwrap();
        t.insert("layer3.1.convolution.weight".into(), conv);
    });
    assert!(renamed.contains("layer3.1.convolution.weight"), "{renamed}");
    let extra = spoiled(&|t| {
        let tensor = t["layer1.0.downsample.0.weight"].clone();
        t.insert("layer1.1.downsample.0.weight".into(), tensor);
    });
    assert!(extra.contains("layer1.1.downsample.0.weight, which that network does not have"), "{extra}");
    let two = spoiled(&|t| {
        let copy: TensorMap = t.iter().map(|(k, v)| (format!("teacher.{k}"), v.clone())).collect();
        t.extend(copy);
    });
    assert!(two.contains("several networks (layer1.…, teacher.layer1.…)"), "{two}");
    let foreign = spoiled(&|t| *t = [("stages.0.blocks.0.conv1.weight".to_owned(), t["bn1.bias"].clone())].into());
    assert!(foreign.contains("no ResNet") && foreign.contains("stages.0.blocks.0.conv1.weight"), "{foreign}");
    let deeper = spoiled(&|t| {
        let block: Vec<(String, HostTensor)> =
            t.iter().filter_map(|(k, v)| Some((k.strip_prefix("layer3.5.")?.to_owned(), v.clone()))).collect();
        for i in 6..23 {
            t.extend(block.iter().map(|(k, v)| (format!("layer3.{i}.{k}"), v.clone())));
        }
    });
    assert!(deeper.contains("model.backbone = \"resnet101\""), "{deeper}");
}

#[test]
fn norms_must_be_of_the_files_kind() {
    let group = load_as(&weights(), WeightsConvention::Auto, BackboneNorm::Group).unwrap_err().to_string();
    assert!(group.contains("model.norm = \"frozen_batch\""), "{group}");
    let mut without = weights();
    without.retain(|name, _| !name.contains("running"));
    let frozen = load_as(&without, WeightsConvention::Auto, BackboneNorm::FrozenBatch).unwrap_err().to_string();
    assert!(frozen.contains("model.norm = \"group\""), "{frozen}");
    assert!(load_as(&without, WeightsConvention::Auto, BackboneNorm::Group).is_ok());
    // Only some norms have statistics: the others are reported.
    let mut part = weights();
    part.retain(|name, _| !(name.starts_with("layer4.2.bn2.running")));
    let loaded = load_as(&part, WeightsConvention::Auto, BackboneNorm::FrozenBatch).unwrap();
    assert_eq!(loaded.norms_without_statistics, ["layer4.2.bn2"]);
}

#[test]
fn a_part_of_a_network_says_what_it_left() {
    let mut part = weights();
    part.retain(|name, _| !name.starts_with("layer4.") || name.contains("downsample"));
    part.insert("fc.weight".into(), HostTensor { shape: vec![1], values: vec![0.0] });
    let loaded = load_as(&part, WeightsConvention::Auto, BackboneNorm::FrozenBatch).unwrap();
    assert_eq!(loaded.report.unused, ["fc.weight"]);
    assert_eq!(loaded.norms_without_statistics.len(), 9);
    assert!(loaded.report.missing.iter().all(|name| name.starts_with("layer4.")));
}
