//! Convolutions with what follows them, and operations on several maps in one tensor, against Burn's operations.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

mod common;

use burn::module::{Module, Param, RunningState};
use burn::tensor::{Device, Tensor};
use common::*;
use foveal_kernels::*;
use proptest::prelude::*;

/// Gives a leaf's gradient, if it has one.
type GradOf = Box<dyn Fn(&burn::tensor::Gradients) -> Option<Vec<f32>>>;

/// Output and gradients of the leaves that have any.
fn with_grads<const D: usize>(y: Tensor<D>, leaves: Vec<GradOf>) -> Vec<Vec<f32>> {
    let mut out = vec![to_vec(y.clone())];
    let grads = (y.clone() * tensor(99, y.dims(), &y.device())).sum().backward();
    out.extend(leaves.iter().filter_map(|leaf| leaf(&grads)));
    out
}

fn grad_of<const D: usize>(t: &Tensor<D>) -> GradOf {
    let t = t.clone();
    Box::new(move |grads| t.grad(grads).map(to_vec))
}

/// A frozen norm with statistics of its own.
fn frozen(channels: usize, device: &Device) -> Norm {
    let mut norm = Norm::new(channels, NormKind::Frozen, 1e-5, device);
    let positive = |seed| tensor::<1>(seed, [channels], device).abs() + 0.5;
    norm.weight = Param::from_tensor(positive(11)).set_require_grad(false);
    norm.bias = Param::from_tensor(tensor(12, [channels], device)).set_require_grad(false);
    norm.running_mean = Some(RunningState::new(tensor(13, [channels], device)));
    norm.running_var = Some(RunningState::new(positive(14)));
    norm
}

#[derive(Clone, Copy, Debug)]
struct Layer {
    inputs: usize,
    outputs: usize,
    size: [usize; 2],
    kernel: usize,
    stride: usize,
    residual: bool,
    act: Activation,
}

fn conv_norm(l: Layer, tracked: [bool; 3], device: &Device) -> Vec<Vec<f32>> {
    let x = leaf(1, [2, l.inputs, l.size[0], l.size[1]], device, tracked[0]);
    let conv = Conv2d::new(tensor(2, [l.outputs, l.inputs, l.kernel, l.kernel], device), None, l.stride, l.kernel / 2);
    let conv = if tracked[1] { conv } else { conv.no_grad() };
    let out = |size: usize| size.div_ceil(l.stride);
    let rest = leaf(3, [2, l.outputs, out(l.size[0]), out(l.size[1])], device, tracked[2]);
    let y = conv.forward_norm(x.clone(), &frozen(l.outputs, device), l.residual.then(|| rest.clone()), l.act);
    if tracked == [false; 3] {
        return vec![to_vec(y)];
    }
    with_grads(y, vec![grad_of(&x), grad_of(&conv.weight.val()), grad_of(&rest)])
}

const LAYERS: [Layer; 4] = [
    Layer { inputs: 20, outputs: 18, size: [22, 27], kernel: 3, stride: 1, residual: true, act: Activation::Relu },
    Layer { inputs: 20, outputs: 30, size: [9, 13], kernel: 1, stride: 1, residual: true, act: Activation::Relu },
    Layer { inputs: 5, outputs: 7, size: [12, 9], kernel: 3, stride: 2, residual: false, act: Activation::Relu },
    Layer { inputs: 24, outputs: 16, size: [21, 20], kernel: 3, stride: 1, residual: false, act: Activation::None },
];

#[test]
fn a_frozen_norm_in_the_convolution_equals_one_after_it() {
    for l in LAYERS {
        for i in 0..8u8 {
            let tracked = [i & 1 > 0, i & 2 > 0, i & 4 > 0 && l.residual];
            compare(&format!("{l:?} tracked {tracked:?}"), |device| conv_norm(l, tracked, device));
        }
    }
}

#[test]
fn a_norm_that_learns_stays_an_operation_of_its_own() {
    compare("batch norm", |device| {
        let x = leaf(1, [2, 6, 9, 8], device, true);
        let conv = Conv2d::new(tensor(2, [4, 6, 3, 3], device), None, 1, 1);
        let norm = Norm::new(4, NormKind::Batch, 1e-5, device);
        let y = conv.forward_norm(x.clone(), &norm, None, Activation::Relu);
        with_grads(y, vec![grad_of(&x), grad_of(&conv.weight.val()), grad_of(&norm.weight.val())])
    });
}

fn sizes(list: &[[usize; 2]]) -> Vec<MapSize> {
    list.iter().map(|&[height, width]| MapSize { height, width }).collect()
}

fn maps(list: &[[usize; 2]], channels: [usize; 2], bias: bool, act: Activation, device: &Device) -> Vec<Vec<f32>> {
    let sizes = sizes(list);
    let pixels = sizes.iter().map(|s| s.height * s.width).sum();
    let x = leaf(1, [2, channels[0], pixels], device, true);
    let w = leaf(2, [channels[1], channels[0], 3, 3], device, true);
    let b = leaf(3, [channels[1]], device, true);
    let y = conv2d_maps(x.clone(), &sizes, w.clone(), bias.then(|| b.clone()), act);
    with_grads(y, vec![grad_of(&x), grad_of(&w), grad_of(&b)])
}

fn normed_maps(list: &[[usize; 2]], device: &Device) -> Vec<Vec<f32>> {
    let sizes = sizes(list);
    let pixels = sizes.iter().map(|s| s.height * s.width).sum();
    let x = leaf(1, [2, 12, pixels], device, true);
    let (w, b) = (leaf(2, [12], device, true), leaf(3, [12], device, true));
    let y = group_norm_maps(x.clone(), &sizes, w.clone(), b.clone(), 4, 1e-5, Activation::Relu);
    with_grads(y, vec![grad_of(&x), grad_of(&w), grad_of(&b)])
}

const PYRAMID: [[usize; 2]; 5] = [[20, 27], [10, 14], [5, 7], [3, 4], [2, 2]];

#[test]
fn several_maps_at_once_equal_one_after_the_other() {
    for bias in [false, true] {
        compare("tower", |device| maps(&PYRAMID, [18, 21], bias, Activation::Relu, device));
        // too few channels for Winograd's way
        compare("narrow tower", |device| maps(&PYRAMID, [3, 2], bias, Activation::Relu, device));
    }
    compare("group norm", |device| normed_maps(&PYRAMID, device));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sizes_of_maps_do_not_matter(list in prop::collection::vec((1usize..20, 1usize..20), 1..4)) {
        let list: Vec<[usize; 2]> = list.into_iter().map(|(h, w)| [h, w]).chain([[17, 24]]).collect();
        // No ReLU: among so many values one can lie closer to zero than both ways agree, and its gradient is lost.
        compare(&format!("{list:?}"), |device| maps(&list, [16, 17], true, Activation::None, device));
    }

    #[test]
    fn channels_last_is_a_transposition(batch in 1usize..3, channels in 1usize..80, pixels in 1usize..80) {
        compare("channels last", |device| {
            let x = leaf(1, [batch, channels, pixels], device, true);
            with_grads(channels_last(x.clone()), vec![grad_of(&x)])
        });
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let _guard = own_kernels();
    let device = Device::flex().autodiff();
    assert_same_on_any_threads(|| maps(&PYRAMID, [40, 33], true, Activation::Relu, &device));
    assert_same_on_any_threads(|| normed_maps(&PYRAMID, &device));
    for l in LAYERS {
        assert_same_on_any_threads(|| conv_norm(l, [true; 3], &device));
    }
}
