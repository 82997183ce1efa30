//! Compares counted parameters and multiply-adds with those of torchvision's published detectors.

use foveal_detector::{InputSize, NetworkCount, TorchvisionArch};

/// Number of torchvision's class channels: the background and COCO's ids up to 90.
const CHANNELS: usize = 91;

fn count(arch: TorchvisionArch) -> NetworkCount {
    arch.model().count(CHANNELS, InputSize { batch: 1, height: 800, width: 800 })
}

fn sum(count: &NetworkCount, of: fn(&foveal_nn::LayerCount) -> u64) -> u64 {
    count.layers.iter().map(of).sum()
}

/// `RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta`: `num_params` 34,014,999 and `_ops` 151.54 (GFLOPS, counted as
/// multiply-adds). The frozen norms are buffers there: 26,560 channels of four numbers.
#[test]
fn v1_has_torchvisions_parameters_and_multiply_adds() {
    let v1 = count(TorchvisionArch::V1);
    assert_eq!(sum(&v1, |layer| layer.parameters), 34_014_999);
    assert_eq!(sum(&v1, |layer| layer.buffers), 106_240);
    assert_eq!(v1.trained_parameters, 34_014_999);
    let ratio = sum(&v1, |layer| layer.multiply_adds) as f64 / 151.54e9;
    assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
    assert_eq!(v1.anchors, 9 * (100 * 100 + 50 * 50 + 25 * 25 + 13 * 13 + 7 * 7));
}

/// `RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1.meta`: `num_params` 38,198,935.
#[test]
fn v2_has_torchvisions_parameters() {
    assert_eq!(sum(&count(TorchvisionArch::V2), |layer| layer.parameters), 38_198_935);
}

/// The maps that the factors of the levels multiply stay in memory for their gradients: 36 numbers for each location.
#[test]
fn factors_of_levels_are_counted() {
    let mut model = TorchvisionArch::V1.model();
    let size = InputSize { batch: 1, height: 64, width: 64 };
    let plain = model.count(2, size);
    model.head.level_scales = true;
    let scaled = model.count(2, size);
    assert_eq!(scaled.trained_parameters, plain.trained_parameters + 5);
    assert_eq!(scaled.head_bytes, plain.head_bytes + 4 * 36 * (64 + 16 + 4 + 1 + 1));
    let layer = scaled.layers.last().unwrap();
    assert_eq!((layer.name.as_str(), layer.parameters), ("head.regression_head.level_scales", 5));
    assert_eq!(layer.outputs.iter().map(|shape| shape[2]).collect::<Vec<_>>(), [8, 4, 2, 1, 1]);
}

/// The maps that a stage keeps grow with the image, and frozen stages keep none.
#[test]
fn frozen_stages_keep_no_maps() {
    let mut model = TorchvisionArch::V1.model();
    let size = InputSize { batch: 1, height: 64, width: 64 };
    let all = model.count(2, size);
    model.freeze_stages = 2;
    let frozen = model.count(2, size);
    assert!(all.stage_bytes[0] > 0);
    assert_eq!(frozen.stage_bytes[0], 0);
    assert_eq!(frozen.stage_bytes[2..], all.stage_bytes[2..]);
    assert!(frozen.trained_parameters < all.trained_parameters);
}

/// The norms of a ResNet-50 have 26,560 channels, each with a scale and a shift that are trained and two statistics
/// that are not. They keep no more maps than frozen norms, and in frozen stages nothing of them is trained.
#[test]
fn fixed_statistics_train_scale_and_shift() {
    let mut model = TorchvisionArch::V1.model();
    let size = InputSize { batch: 1, height: 64, width: 64 };
    let frozen = model.count(CHANNELS, size);
    model.norm = foveal_backbone::BackboneNorm::FrozenStatistics;
    let fixed = model.count(CHANNELS, size);
    assert_eq!(fixed.trained_parameters, frozen.trained_parameters + 2 * 26_560);
    assert_eq!(sum(&fixed, |layer| layer.parameters), sum(&frozen, |layer| layer.parameters) + 2 * 26_560);
    assert_eq!(sum(&fixed, |layer| layer.buffers), 2 * 26_560);
    assert_eq!((fixed.stage_bytes, fixed.head_bytes), (frozen.stage_bytes, frozen.head_bytes));
    let pyramid_and_heads = |norm| {
        let model = foveal_detector::ModelConfig { norm, freeze_stages: 5, ..model.clone() };
        model.count(CHANNELS, size).trained_parameters
    };
    assert_eq!(pyramid_and_heads(model.norm), pyramid_and_heads(foveal_backbone::BackboneNorm::FrozenBatch));
}

/// The input of the 7x7 stem, unfolded: `[400 * 400, 3 * 7 * 7]` in f32 for a square of 800 pixels. Where the stem is
/// frozen, that of a 3x3 layer on the map of P3: `[100 * 100, 256 * 3 * 3]`; layer1's has as many values.
#[test]
fn the_largest_unfolded_input_is_named() {
    let mut model = TorchvisionArch::V1.model();
    let largest = |model: &foveal_detector::ModelConfig, batch| {
        model.count(CHANNELS, InputSize { batch, height: 800, width: 800 }).largest_columns.unwrap()
    };
    let columns = largest(&model, 2);
    assert_eq!((columns.layer.as_str(), columns.bytes), ("backbone.body.conv1", 2 * 4 * 400 * 400 * 147));
    model.freeze_stages = 1;
    let columns = largest(&model, 1);
    assert_eq!((columns.layer.as_str(), columns.bytes), ("backbone.body.layer1.0.conv2", 4 * 200 * 200 * 64 * 9));
    assert_eq!(columns.bytes, 4 * 100 * 100 * 256 * 9);
}

/// Burn unfolds no input of a convolution with several groups, such as those of 1,024 channels in layer3 of a
/// ResNeXt-101.
#[test]
fn grouped_convolutions_unfold_nothing() {
    let mut model = TorchvisionArch::V1.model();
    (model.backbone, model.freeze_stages) = (foveal_backbone::BackboneKind::ResNeXt101_64x4d, 1);
    let columns = model.count(CHANNELS, InputSize { batch: 1, height: 800, width: 800 }).largest_columns.unwrap();
    assert!(!columns.layer.starts_with("backbone.body"), "{}", columns.layer);
}
