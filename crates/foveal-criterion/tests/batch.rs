//! Losses of several images: accumulation, images without objects, ignored anchors, box losses by hand, and all losses
//! against those of torch and torchvision.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

mod reference;

use burn::tensor::{Device, Tensor};
use foveal_anchors::{BACKGROUND, IGNORE, ImageTargets, Positive};
use foveal_boxes::{BBox, encode};
use foveal_criterion::{BoxLossKind, LossConfig, Normalizer, NormalizerKind};

const ANCHORS: usize = 4;
const BOX_LOSSES: [BoxLossKind; 5] =
    [BoxLossKind::L1, BoxLossKind::SmoothL1, BoxLossKind::Giou, BoxLossKind::Diou, BoxLossKind::Ciou];
/// Differences of single and double precision, relative to the largest value of a tensor.
const TOLERANCE: f32 = 1e-5;

fn positive(anchor: u32, class: u32) -> Positive {
    let anchor_box = BBox::new(0.0, 0.0, 10.0, 20.0);
    let object = BBox::new(1.0 + anchor as f32, 0.0, 11.0, 20.0);
    Positive { anchor, class, anchor_box, object, delta: encode(&anchor_box, &object) }
}

fn two_images() -> Vec<ImageTargets> {
    let first =
        ImageTargets { classes: vec![1, BACKGROUND, 0, IGNORE], positives: vec![positive(0, 1), positive(2, 0)] };
    vec![first, ImageTargets { classes: vec![BACKGROUND; ANCHORS], positives: vec![] }]
}

fn inputs(device: &Device) -> (Tensor<3>, Tensor<3>) {
    let ramp = |n: usize, scale: f32| {
        let values: Vec<f32> = (0..n).map(|i| ((i * 7919 % 23) as f32 - 11.0) * scale).collect();
        Tensor::<1>::from_floats(values.as_slice(), device)
    };
    (ramp(2 * ANCHORS * 2, 0.3).reshape([2, ANCHORS, 2]), ramp(2 * ANCHORS * 4, 0.02).reshape([2, ANCHORS, 4]))
}

fn total(config: &LossConfig, images: std::ops::Range<usize>, normalizer: Normalizer) -> f32 {
    let (logits, deltas) = inputs(&Device::flex());
    let (start, len) = (images.start, images.len());
    let part = |t: Tensor<3>| t.narrow(0, start, len);
    config.forward(part(logits), part(deltas), &two_images()[images], normalizer).total.into_scalar()
}

#[test]
fn accumulated_images_give_the_loss_of_one_batch() {
    for normalizer in [NormalizerKind::Batch, NormalizerKind::PerImage] {
        let config = LossConfig { normalizer, ..LossConfig::default() };
        let shared = Normalizer::of(normalizer, &two_images());
        let whole = total(&config, 0..2, shared);
        let parts = total(&config, 0..1, shared) + total(&config, 1..2, shared);
        assert!((whole - parts).abs() <= 1e-6 * whole.abs(), "{normalizer:?}: {whole} {parts}");
    }
}

#[test]
fn images_without_objects_have_a_finite_loss_and_gradient() {
    let device = Device::flex().autodiff();
    let (logits, deltas) = inputs(&device);
    let (logits, deltas) = (logits.narrow(0, 1, 1).require_grad(), deltas.narrow(0, 1, 1).require_grad());
    let empty = &two_images()[1..];
    for box_kind in BOX_LOSSES {
        let config = LossConfig { box_kind, ..LossConfig::default() };
        let losses = config.forward(logits.clone(), deltas.clone(), empty, Normalizer::of(config.normalizer, empty));
        assert_eq!(losses.boxes.clone().into_scalar::<f32>(), 0.0);
        let grads = losses.total.backward();
        let g: Vec<f32> = logits.grad(&grads).unwrap().into_data().try_to_vec().unwrap();
        assert!(g.iter().all(|v| v.is_finite()) && g.iter().any(|v| *v != 0.0));
        let g: Vec<f32> = deltas.grad(&grads).unwrap().into_data().try_to_vec().unwrap();
        assert!(g.iter().all(|v| *v == 0.0));
    }
}

#[test]
fn ignored_anchors_have_no_gradient() {
    let device = Device::flex().autodiff();
    let (logits, deltas) = inputs(&device);
    let logits = logits.require_grad();
    let config = LossConfig::default();
    let images = two_images();
    let losses = config.forward(logits.clone(), deltas, &images, Normalizer::of(config.normalizer, &images));
    let grads = losses.total.backward();
    let g: Vec<f32> = logits.grad(&grads).unwrap().into_data().try_to_vec().unwrap();
    for (anchor, pair) in g.chunks(2).enumerate() {
        assert_eq!(pair.iter().all(|v| *v == 0.0), anchor == 3, "anchor {anchor}: {pair:?}");
    }
}

/// Computed by hand: the anchor has 10 x 20 pixels and lies at the origin. The object has the same size and lies 1
/// pixel to the right, so dx is 0.1 and the other deltas are 0. The predicted deltas are 0. The boxes share 9 of 11
/// columns, their centres are 1 pixel apart, and the enclosing box has 11 x 20 pixels. Both boxes have the same ratio
/// of width to height.
#[test]
fn box_losses_equal_hand_computed_values() {
    let device = Device::flex();
    let images = vec![ImageTargets { classes: vec![0], positives: vec![positive(0, 0)] }];
    let loss = |box_kind, beta| -> f32 {
        let config = LossConfig { box_kind, beta, ..LossConfig::default() };
        let (logits, deltas) = (Tensor::zeros([1, 1, 1], &device), Tensor::zeros([1, 1, 4], &device));
        config.forward(logits, deltas, &images, Normalizer::Positives(1)).boxes.into_scalar()
    };
    assert!((loss(BoxLossKind::L1, 0.1) - 0.1).abs() < 1e-6);
    assert!((loss(BoxLossKind::SmoothL1, 0.5) - 0.5 * 0.01 / 0.5).abs() < 1e-6);
    assert!((loss(BoxLossKind::SmoothL1, 0.04) - (0.1 - 0.02)).abs() < 1e-6);
    assert!((loss(BoxLossKind::Giou, 0.1) - (1.0 - 9.0 / 11.0)).abs() < 1e-6);
    for kind in [BoxLossKind::Diou, BoxLossKind::Ciou] {
        let expected = 1.0 - 9.0 / 11.0 + 1.0 / (11.0 * 11.0 + 20.0 * 20.0);
        assert!((loss(kind, 0.1) - expected).abs() < 1e-6, "{kind:?}");
    }
}

/// Computed by hand: the anchor has 10 x 20 pixels and the object 20 x 10 pixels with the same centre. They share 10 x
/// 10 of 300 pixels, and the difference of the angles is `atan(2) - atan(1/2) = atan(3/4)`.
#[test]
fn the_complete_iou_penalises_another_ratio_of_the_sides() {
    let (anchor_box, object) = (BBox::new(0.0, 0.0, 10.0, 20.0), BBox::new(-5.0, 5.0, 15.0, 15.0));
    let delta = encode(&anchor_box, &object);
    let positive = Positive { anchor: 0, class: 0, anchor_box, object, delta };
    let images = vec![ImageTargets { classes: vec![0], positives: vec![positive] }];
    let device = Device::flex();
    let loss = |box_kind| -> f64 {
        let config = LossConfig { box_kind, ..LossConfig::default() };
        let (logits, deltas) = (Tensor::zeros([1, 1, 1], &device), Tensor::zeros([1, 1, 4], &device));
        config.forward(logits, deltas, &images, Normalizer::Positives(1)).boxes.into_scalar()
    };
    let v = 4.0 * 0.75_f64.atan().powi(2) / std::f64::consts::PI.powi(2);
    assert!((loss(BoxLossKind::Diou) - 2.0 / 3.0).abs() < 1e-6);
    assert!((loss(BoxLossKind::Ciou) - (2.0 / 3.0 + v * v / (2.0 / 3.0 + v))).abs() < 1e-6);
}

/// A predicted box may have no width, no height or neither, and it may equal the object. All losses and gradients stay
/// finite.
#[test]
fn boxes_without_area_have_finite_losses_and_gradients() {
    let images = vec![ImageTargets { classes: vec![0], positives: vec![positive(0, 0)] }];
    let exact = positive(0, 0).delta.to_array();
    for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
        for sizes in [[-200.0, 0.1], [0.1, -200.0], [-200.0, -200.0], [-16.0, -16.0], [exact[2], exact[3]]] {
            for box_kind in BOX_LOSSES {
                let config = LossConfig { box_kind, ..LossConfig::default() };
                let deltas = Tensor::<1>::from_floats([exact[0], exact[1], sizes[0], sizes[1]], &device);
                let deltas = deltas.reshape([1, 1, 4]).require_grad();
                let logits = Tensor::zeros([1, 1, 1], &device);
                let loss = config.forward(logits, deltas.clone(), &images, Normalizer::Positives(1)).boxes;
                let grads = loss.backward();
                let gradient: Vec<f32> = deltas.grad(&grads).unwrap().into_data().try_to_vec().unwrap();
                let loss: f32 = loss.into_scalar();
                assert!(
                    loss.is_finite() && gradient.iter().all(|g| g.is_finite()),
                    "{box_kind:?}, {sizes:?}: {loss} {gradient:?}"
                );
            }
        }
    }
}

#[test]
fn quality_focal_with_every_box_loss_on_flex() {
    reference::quality_focal_and_every_box_loss(&Device::flex(), TOLERANCE);
}

#[test]
fn quality_focal_with_every_box_loss_on_ndarray() {
    reference::quality_focal_and_every_box_loss(&Device::ndarray(), TOLERANCE);
}

/// PyTorch's documentation of `smooth_l1_loss`: if `beta` is zero, it is equivalent to L1.
#[test]
fn smooth_l1_with_a_beta_of_zero_is_l1() {
    let device = Device::flex().autodiff();
    let images = two_images();
    let normalizer = Normalizer::of(NormalizerKind::Batch, &images);
    let run = |box_kind, beta| -> (f32, Vec<f32>) {
        let (logits, deltas) = inputs(&device);
        let deltas = deltas.require_grad();
        let config = LossConfig { box_kind, beta, ..LossConfig::default() };
        let loss = config.forward(logits, deltas.clone(), &images, normalizer).boxes;
        let grads = loss.backward();
        (loss.into_scalar(), deltas.grad(&grads).unwrap().into_data().try_to_vec().unwrap())
    };
    let l1 = run(BoxLossKind::L1, 0.1);
    assert!(l1.0 > 0.0);
    // Numbers that single precision rounds to 0 are no divisors either.
    for beta in [0.0, 5e-324, 1e-50, 1e-38, 1e-20] {
        assert_eq!(run(BoxLossKind::SmoothL1, beta), l1, "beta {beta}");
    }
    let (loss, gradient) = run(BoxLossKind::SmoothL1, 1e-12);
    assert!((loss - l1.0).abs() <= 1e-6 * l1.0 && gradient.iter().all(|g| g.is_finite()), "{loss} {gradient:?}");
}
