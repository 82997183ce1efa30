//! Every class loss trains a tiny model on wgpu: one convolution gives the logits and is trained for three steps. The
//! quality focal loss and every box loss are compared with torch and torchvision.
//!
//! Without an adapter the test fails, as the wgpu tests of the kernels do; `scripts/swiftshader` sets up a software
//! adapter. All losses use the same shapes, because a software adapter compiles its programs for each shape.
#![cfg(feature = "wgpu")]

mod reference;

use burn::tensor::{Device, Tensor, TensorData};
use foveal_anchors::{BACKGROUND, IGNORE, ImageTargets, Positive};
use foveal_boxes::{BBox, Delta};
use foveal_criterion::{
    BreakdownLayout, ClassLossKind, ClassWeights, LossBreakdown, LossConfig, Normalizer, PerClass, SmoothedPositives,
};
use foveal_kernels::{ConvOptions, conv2d};

const ANCHORS: usize = 64;
const CLASSES: usize = 4;

fn targets() -> ImageTargets {
    let anchor_box = BBox::new(0.0, 0.0, 10.0, 10.0);
    let object = BBox::new(1.0, 0.0, 11.0, 10.0);
    let delta = Delta { dx: 0.1, dy: 0.0, dw: 0.0, dh: 0.0 };
    let positives: Vec<Positive> =
        (0..4).map(|i| Positive { anchor: 16 * i, class: i, anchor_box, object, delta }).collect();
    let mut classes = vec![BACKGROUND; ANCHORS];
    classes[5] = IGNORE;
    positives.iter().for_each(|p| classes[p.anchor as usize] = p.class as i32);
    ImageTargets { classes, positives }
}

fn ramp<const D: usize>(dims: [usize; D], scale: f32, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..dims.iter().product()).map(|i: usize| ((i * 7919 % 23) as f32 - 11.0) * scale).collect();
    Tensor::from_data(TensorData::new(values, dims), device)
}

/// Returns the losses of three steps, and from the breakdown of the last step the numbers of ignored anchors, positive
/// pairs and negative pairs. The losses of that breakdown are checked.
fn descend(config: &LossConfig, normalizer: Normalizer, device: &Device) -> (Vec<f32>, [f64; 3]) {
    let x = ramp([1, 4, 8, 8], 0.1, device);
    let layout = BreakdownLayout { level_anchors: [32, 16, 8, 8, 0] };
    let mut weight = ramp([4, 4, 3, 3], 0.02, device).require_grad();
    let deltas = Tensor::zeros([1, ANCHORS, 4], device);
    let (mut found, mut numbers) = (Vec::new(), [0.0; 3]);
    for step in 0..3 {
        let options = ConvOptions { padding: 1, ..ConvOptions::default() };
        let maps = conv2d(x.clone(), weight.clone(), None, options);
        let logits = maps.reshape([1, CLASSES, ANCHORS]).swap_dims(1, 2) - 2.0;
        let breakdown = (step == 2).then_some(layout);
        let losses = config.forward_with(logits, deltas.clone(), &[targets()], normalizer, breakdown);
        let loss: f32 = losses.class.clone().into_scalar();
        found.push(loss);
        if let Some(breakdown) = losses.breakdown {
            let values: Vec<f32> = breakdown.values.into_data().try_to_vec().unwrap();
            let record = LossBreakdown::read(breakdown.counts, &values).record();
            let sum = record.positive.loss + record.negative.loss;
            assert!((sum - f64::from(loss)).abs() <= 1e-5 * sum, "{config:?}: {sum} {loss}");
            numbers = [record.ignored, record.positive.pairs, record.negative.pairs];
        }
        let grads = losses.total.backward();
        let slope = weight.grad(&grads).unwrap();
        let norm: f32 = slope.clone().square().sum().into_scalar();
        assert!(norm.is_finite() && norm > 0.0, "{config:?}: gradient {norm}");
        // A step of fixed length, so that it does not depend on the scale of the loss.
        let slope = Tensor::from_inner(slope * (0.05 / norm.sqrt()));
        weight = (weight - slope).detach().require_grad();
    }
    (found, numbers)
}

#[test]
fn every_remedy_descends_on_wgpu_as_on_the_cpu() {
    let device = foveal_kernels::test_adapter();
    let base = LossConfig::default;
    let each = |low: f64| PerClass::Each((0..CLASSES).map(|c| low + 0.1 * c as f64).collect());
    let batch = Normalizer::Positives(4);
    let cases = [
        (LossConfig { kind: ClassLossKind::CrossEntropy, ..base() }, batch),
        (LossConfig { kind: ClassLossKind::BalancedCrossEntropy, ..base() }, batch),
        (base(), batch),
        (base(), Normalizer::Images(1)),
        (base(), Normalizer::Smoothed(SmoothedPositives::default().update(4))),
        (LossConfig { alpha: each(0.2), gamma: each(1.0), ..base() }, batch),
        (LossConfig { class_weights: ClassWeights::Each(vec![0.5, 1.0, 2.0, 0.5]), ..base() }, batch),
        (LossConfig { kind: ClassLossKind::Ohem, ..base() }, batch),
        (LossConfig { kind: ClassLossKind::QualityFocal, ..base() }, batch),
    ];
    for (config, normalizer) in cases {
        let (gpu, numbers) = descend(&config, normalizer, &device.clone().autodiff());
        let (cpu, of_cpu) = descend(&config, normalizer, &Device::flex().autodiff());
        assert_eq!(numbers, of_cpu, "{config:?}: ignored anchors, positive and negative pairs");
        assert!(gpu[2] < gpu[0], "{config:?}: {gpu:?}");
        for (a, b) in gpu.iter().zip(&cpu) {
            assert!((a - b).abs() <= 1e-4 * b.abs(), "{config:?}: {gpu:?} {cpu:?}");
        }
    }
}

/// The tolerance is that of the losses of the other test; drivers may compute the arctangent of the complete IoU with
/// an error of 4096 units in the last place.
#[test]
fn quality_focal_with_every_box_loss_on_wgpu() {
    reference::quality_focal_and_every_box_loss(&foveal_kernels::test_adapter(), 1e-4);
}
