//! Three updates compared with torch 2.x; expected values from `torch.optim.SGD(lr=0.1, momentum=0.9)` and
//! `torch.optim.AdamW(lr=0.1, betas=(0.9, 0.999), eps=1e-8)`, weight decay 0.1 on the weight and 0 on the bias.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::*;
use crate::device::tests::as_accelerator;

#[derive(Module, Debug)]
struct Tiny {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

/// Covers the f32 rounding of a few operations on values of about 1.
const TOLERANCE: f32 = 2e-6;

fn tiny(device: &Device) -> Tiny {
    Tiny {
        weight: Param::from_tensor(Tensor::from_floats([[1.0, -2.0], [0.5, 3.0]], device)),
        bias: Param::from_tensor(Tensor::from_floats([0.25, -0.75], device)),
    }
}

fn grads(model: &Tiny, factor: f32, device: &Device) -> Grads {
    let weight = Tensor::<2>::from_floats([[0.1, -0.2], [0.3, 0.4]], device) * factor;
    let bias = Tensor::<1>::from_floats([-0.5, 0.05], device) * factor;
    let loss = (model.weight.val() * weight).sum() + (model.bias.val() * bias).sum();
    let mut grads = Grads::default();
    grads.accumulate(model, loss.backward());
    grads
}

fn values(model: &Tiny) -> Vec<f32> {
    let mut values: Vec<f32> = model.weight.val().into_data().try_to_vec().unwrap();
    values.extend(model.bias.val().into_data().try_to_vec::<f32>().unwrap());
    values
}

fn config(optimizer: OptimizerKind) -> TrainConfig {
    TrainConfig { optimizer, momentum: 0.9, weight_decay: 0.1, ..TrainConfig::default() }
}

fn clipping(factor: f32, finite: bool, device: &Device) -> Clipping {
    let device = device.clone().without_autodiff();
    let finite = Tensor::<1>::from_floats([if finite { 1.0 } else { f32::NAN }], &device).is_finite();
    Clipping { factor: Tensor::from_floats([factor], &device), finite }
}

/// Runs a test with updates by slices, then by tensor operations.
fn both_ways(test: impl Fn()) {
    test();
    as_accelerator(test);
}

fn close(found: &[f32], expected: &[f32]) {
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= TOLERANCE, "{found:?} is not {expected:?}");
    }
}

#[test]
fn three_updates_are_torchs() {
    let sgd = [0.8498579, -1.6997159, 0.1886264, 2.4550529, 0.7255, -0.79755];
    let adamw = [0.6809358, -1.6512348, 0.1957863, 2.621534, 0.5423183, -1.0423183];
    let device = Device::flex().autodiff();
    for (kind, expected) in [(OptimizerKind::Sgd, sgd), (OptimizerKind::AdamW, adamw)] {
        both_ways(|| {
            let (mut model, mut optimizer) = (tiny(&device), Optimizer::new(&config(kind)));
            for t in 1..=3 {
                let grads = grads(&model, t as f32, &device);
                model = optimizer.step(model, grads, 0.1, &clipping(1.0, true, &device));
            }
            close(&values(&model), &expected);
            assert!(model.weight.val().is_require_grad());
        });
    }
}

#[test]
fn nothing_changes_where_something_is_not_finite() {
    let device = Device::flex().autodiff();
    for kind in [OptimizerKind::Sgd, OptimizerKind::AdamW] {
        both_ways(|| {
            let (mut model, mut optimizer) = (tiny(&device), Optimizer::new(&config(kind)));
            let before = values(&model);
            let grads = grads(&model, f32::NAN, &device);
            model = optimizer.step(model, grads, 0.1, &clipping(1.0, false, &device));
            assert_eq!(values(&model), before);
            let first = crate::update::to_host(&optimizer.first);
            assert!(first.values().all(|t| t.values.iter().all(|v| *v == 0.0)));
        });
    }
}

#[test]
fn the_factor_scales_gradients_and_the_norm_is_global() {
    let device = Device::flex().autodiff();
    let model = tiny(&device);
    let mut g = grads(&model, 1.0, &device);
    let expected = (0.01f64 + 0.04 + 0.09 + 0.16 + 0.25 + 0.0025).sqrt();
    let mut norm = || -> f64 { g.norm(&device).into_scalar() };
    let (slices, tensors) = (norm(), as_accelerator(&mut norm));
    assert!((slices - expected).abs() < 1e-6 && (tensors - expected).abs() < 1e-6, "{slices} {tensors} {expected}");
    let half = clipping(0.5, true, &device);
    let half = Optimizer::new(&config(OptimizerKind::Sgd)).step(tiny(&device), g, 0.1, &half);
    let direct = Optimizer::new(&config(OptimizerKind::Sgd)).step(
        tiny(&device),
        grads(&model, 0.5, &device),
        0.1,
        &clipping(1.0, true, &device),
    );
    close(&values(&half), &values(&direct));
}

#[test]
fn norms_and_biases_decay_by_switch_alone() {
    let device = Device::flex().autodiff();
    let bias_after = |decay_norms| {
        let config = TrainConfig { decay_norms, ..config(OptimizerKind::Sgd) };
        let model = tiny(&device);
        let grads = grads(&model, 0.0, &device);
        values(&Optimizer::new(&config).step(model, grads, 0.1, &clipping(1.0, true, &device)))[4]
    };
    assert_eq!(bias_after(false), 0.25);
    assert!((bias_after(true) - 0.25 * 0.99).abs() < 1e-7);
}

#[derive(Module, Debug)]
struct Backbone {
    body: Tiny,
    fpn: Tiny,
}

#[derive(Module, Debug)]
struct Detector {
    backbone: Backbone,
    head: Tiny,
}

/// How far one update with equal gradients everywhere moves body, pyramid and head, the bias of the body being new.
fn moves(kind: OptimizerKind, factors: [f64; 2]) -> [Vec<f32>; 3] {
    let device = Device::flex().autodiff();
    let [backbone_lr, new_layers_lr] = factors;
    let config = TrainConfig { weight_decay: 0.0, backbone_lr, new_layers_lr, ..config(kind) };
    let mut optimizer = Optimizer::new(&config);
    let new = ["backbone.body.bias", "head.weight", "head.bias"].map(str::to_owned);
    optimizer.groups = LrGroups::new(&config, &new);
    let start = || tiny(&device);
    let mut model = Detector { backbone: Backbone { body: start(), fpn: start() }, head: start() };
    let sum = |t: &Tiny| t.weight.val().sum() + t.bias.val().sum();
    let loss = sum(&model.backbone.body) + sum(&model.backbone.fpn) + sum(&model.head);
    let mut grads = Grads::default();
    grads.accumulate(&model, loss.backward());
    model = optimizer.step(model, grads, 0.1, &clipping(1.0, true, &device));
    let before = values(&start());
    let moved = |t: &Tiny| values(t).iter().zip(&before).map(|(a, b)| b - a).collect();
    [moved(&model.backbone.body), moved(&model.backbone.fpn), moved(&model.head)]
}

#[test]
fn each_group_moves_by_its_factor() {
    for kind in [OptimizerKind::Sgd, OptimizerKind::AdamW] {
        both_ways(|| {
            let [body, fpn, head] = moves(kind, [0.1, 2.0]);
            // With a gradient of 1 and a learning rate of 0.1, both SGD and the first step of Adam move by 0.1.
            close(&fpn, &[0.1; 6]);
            close(&body, &[0.01, 0.01, 0.01, 0.01, 0.2, 0.2]);
            close(&head, &[0.2; 6]);
            let [body, _, head] = moves(kind, [0.0, 0.0]);
            assert_eq!((body, head), (vec![0.0; 6], vec![0.0; 6]));
        });
    }
}
