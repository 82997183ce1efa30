//! Three updates compared with torch 2.x; expected values from `torch.optim.SGD(lr=0.1, momentum=0.9)` and
//! `torch.optim.AdamW(lr=0.1, betas=(0.9, 0.999), eps=1e-8)`, weight decay 0.1 on the weight and 0 on the bias.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use foveal_weights::{TensorMap, named_tensors};

use super::*;
use crate::device::tests::as_accelerator;
use crate::update::params::with_rank;
use crate::update::{from_host, to_host};

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
            let first = to_host(&optimizer.first);
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

#[derive(Module, Debug)]
struct Conv {
    weight: Param<Tensor<4>>,
    other: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

/// Shape of the weights of [`Conv`], whose dimensions all differ.
const WEIGHT: [usize; 4] = [5, 3, 2, 4];

fn ramp<const D: usize>(dims: [usize; D], scale: f32, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..dims.iter().product()).map(|i: usize| ((i * 7919 % 23) as f32 - 11.0) * scale).collect();
    Tensor::from_data(TensorData::new(values, dims), device)
}

fn conv(device: &Device) -> Conv {
    Conv {
        weight: Param::from_tensor(ramp(WEIGHT, 0.1, device)),
        other: Param::from_tensor(ramp(WEIGHT, -0.2, device)),
        bias: Param::from_tensor(ramp([5], 0.3, device)),
    }
}

/// The values of `tensor` in channels-last memory, as a view of the same shape.
fn channels_last(tensor: Tensor<4>) -> Tensor<4> {
    let [o, i, h, w] = tensor.dims();
    let data = tensor.permute([0, 2, 3, 1]).into_data();
    assert_eq!(data.shape().to_vec(), [o, h, w, i]);
    Tensor::from_data(data, &Device::flex()).permute([0, 3, 1, 2])
}

/// Gradients for [`Conv`], those of the weights in memory as `layout` gives it.
fn conv_grads(factor: f32, layout: fn(Tensor<4>) -> Tensor<4>) -> Grads {
    let device = Device::flex();
    let weights = [("weight", 0.05), ("other", 0.07)]
        .map(|(name, scale)| (name.to_owned(), ParamTensor::new(layout(ramp(WEIGHT, scale * factor, &device)))));
    let bias = ParamTensor::new(ramp([5], 0.01 * factor, &device));
    Grads(weights.into_iter().chain([("bias".to_owned(), bias)]).collect())
}

/// The parameters of `model` and the state of `optimizer`, all flat.
fn everything(model: &Conv, optimizer: &Optimizer) -> Vec<Vec<f32>> {
    let model = named_tensors(model).into_values();
    let state = [&optimizer.first, &optimizer.second].map(to_host).into_iter().flat_map(TensorMap::into_values);
    model.chain(state).map(|tensor| tensor.values).collect()
}

#[test]
fn the_memory_layout_of_a_gradient_does_not_matter() {
    let device = Device::flex().autodiff();
    for kind in [OptimizerKind::Sgd, OptimizerKind::AdamW] {
        both_ways(|| {
            let run = |layout| {
                let (mut model, mut optimizer) = (conv(&device), Optimizer::new(&config(kind)));
                let mut norms = Vec::new();
                for t in 1..=3 {
                    let mut grads = conv_grads(t as f32, layout);
                    norms.push(grads.norm(&device).into_scalar::<f64>());
                    model = optimizer.step(model, grads, 0.1, &clipping(0.5, true, &device));
                }
                (everything(&model, &optimizer), norms)
            };
            let (contiguous, permuted) = (run(|tensor| tensor), run(channels_last));
            assert_eq!(contiguous.0.len(), if kind == OptimizerKind::Sgd { 6 } else { 9 });
            for (a, b) in contiguous.0.iter().zip(&permuted.0) {
                close(a, b);
            }
            for (a, b) in contiguous.1.iter().zip(&permuted.1) {
                assert!((a - b).abs() < 1e-6 * a && *a > 0.1, "{a} {b}");
            }
        });
    }
}

#[test]
fn the_norm_covers_all_gradients_of_equal_and_different_shapes() {
    let device = Device::flex().autodiff();
    let expected = to_host(&conv_grads(1.0, |tensor| tensor).0)
        .values()
        .flat_map(|t| &t.values)
        .map(|v| f64::from(*v) * f64::from(*v))
        .sum::<f64>()
        .sqrt();
    both_ways(|| {
        let norm: f64 = conv_grads(1.0, channels_last).norm(&device).into_scalar();
        assert!((norm - expected).abs() < 1e-6 * expected, "{norm} {expected}");
        for (name, value) in [("other", f32::NAN), ("weight", f32::INFINITY), ("bias", f32::NEG_INFINITY)] {
            let mut grads = conv_grads(1.0, channels_last);
            let broken = with_rank!(grads.0.remove(name).unwrap(), tensor => ParamTensor::new(tensor * value));
            grads.0.insert(name.to_owned(), broken);
            assert!(!grads.norm(&device).into_scalar::<f64>().is_finite(), "{name} {value}");
        }
        assert_eq!(Grads::default().norm(&device).into_scalar::<f64>(), 0.0);
    });
}

#[test]
fn tensors_are_read_in_row_major_order_and_come_back_in_their_shape() {
    let device = Device::flex().autodiff();
    let tensor = ramp(WEIGHT, 0.1, &Device::flex());
    let row_major: Vec<f32> = tensor.clone().into_data().try_to_vec().unwrap();
    let permuted = ParamTensor::new(channels_last(tensor));
    let tensors = ParamTensors::from([("weight".to_owned(), permuted.clone())]);
    let host = to_host(&tensors);
    assert_eq!((&host["weight"].shape, &host["weight"].values), (&vec![row_major.len()], &row_major));
    assert_eq!(permuted.flat().into_data().try_to_vec::<f32>().unwrap(), row_major);

    let model = conv(&device);
    let back = from_host(&host, &model, &device)["weight"].clone().into_rank::<4>();
    assert_eq!(back.dims(), WEIGHT);
    assert_eq!(back.into_data().try_to_vec::<f32>().unwrap(), row_major);
}

#[test]
fn an_optimizer_goes_on_from_a_flat_state_with_the_same_bits() {
    let device = Device::flex().autodiff();
    for kind in [OptimizerKind::Sgd, OptimizerKind::AdamW] {
        both_ways(|| {
            let step = |model, optimizer: &mut Optimizer, t: f32| {
                optimizer.step(model, conv_grads(t, channels_last), 0.1, &clipping(1.0, true, &device))
            };
            let mut whole = Optimizer::new(&config(kind));
            let model = step(conv(&device), &mut whole, 1.0);
            let state = [&whole.first, &whole.second].map(to_host);
            assert!(state.iter().flat_map(TensorMap::values).all(|tensor| tensor.shape.len() == 1));
            let mut resumed = Optimizer::new(&config(kind));
            resumed.updates = whole.updates;
            [resumed.first, resumed.second] = state.map(|tensors| from_host(&tensors, &model, &device));
            let (a, b) = (step(model.clone(), &mut whole, 2.0), step(model, &mut resumed, 2.0));
            assert_eq!(everything(&a, &whole), everything(&b, &resumed));
        });
    }
}
