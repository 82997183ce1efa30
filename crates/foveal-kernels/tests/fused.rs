//! Compares convolutions with an epilogue, and operations on several maps in one tensor, with Burn's operations.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

mod common;

use burn::tensor::Device;
use common::*;
use foveal_kernels::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Layer {
    inputs: usize,
    outputs: usize,
    size: [usize; 2],
    kernel: usize,
    stride: usize,
    groups: usize,
    activation: Activation,
}

const fn layer(channels: [usize; 2], size: [usize; 2], window: [usize; 2], groups: usize) -> Layer {
    let ([inputs, outputs], [kernel, stride]) = (channels, window);
    Layer { inputs, outputs, size, kernel, stride, groups, activation: Activation::Relu }
}

const LAYERS: [Layer; 8] = [
    layer([20, 18], [22, 27], [3, 1], 1),
    layer([20, 30], [9, 13], [1, 1], 1),
    layer([5, 7], [12, 9], [3, 2], 1),
    Layer { activation: Activation::None, ..layer([24, 16], [21, 20], [3, 1], 1) },
    layer([32, 32], [11, 10], [3, 1], 8),
    layer([36, 27], [12, 15], [3, 2], 9),
    layer([60, 36], [13, 18], [1, 1], 4),
    Layer { activation: Activation::None, ..layer([40, 40], [22, 24], [3, 1], 2) },
];

/// Which of scale, shift and residual the epilogue has.
type Parts = [bool; 3];

fn epilogue(l: Layer, [scale, shift, residual]: Parts, tracked: [bool; 4], device: &Device) -> Vec<Vec<f32>> {
    let out = l.size.map(|size| size.div_ceil(l.stride));
    let x = leaf(1, [2, l.inputs, l.size[0], l.size[1]], device, tracked[0]);
    let w = leaf(2, [l.outputs, l.inputs / l.groups, l.kernel, l.kernel], device, tracked[1]);
    let b = leaf(3, [l.outputs], device, tracked[2]);
    let rest = leaf(4, [2, l.outputs, out[0], out[1]], device, tracked[3]);
    let epilogue = Epilogue {
        scale: scale.then(|| tensor(5, [l.outputs], device)),
        shift: shift.then(|| b.clone()),
        residual: residual.then(|| rest.clone()),
        activation: l.activation,
        mask: None,
    };
    let options = ConvOptions { stride: l.stride, padding: l.kernel / 2, groups: l.groups };
    let y = conv2d_fused(x.clone(), w.clone(), epilogue, options);
    if ![tracked[0], tracked[1], tracked[2] && shift, tracked[3] && residual].contains(&true) {
        return vec![to_vec(y)];
    }
    with_grads(y, vec![grad_of(&x), grad_of(&w), grad_of(&b), grad_of(&rest)])
}

fn bits<const N: usize>(i: usize) -> [bool; N] {
    std::array::from_fn(|bit| i >> bit & 1 == 1)
}

#[test]
fn a_convolution_with_its_epilogue_equals_one_after_the_other() {
    for l in LAYERS {
        for parts in (0..8).map(bits) {
            compare(&format!("{l:?} parts {parts:?}"), |device| epilogue(l, parts, [true; 4], device));
        }
    }
}

#[test]
fn an_epilogue_has_the_gradients_of_what_learns() {
    for l in [LAYERS[0], LAYERS[4], LAYERS[5]] {
        for tracked in (0..16).map(bits) {
            compare(&format!("{l:?} tracked {tracked:?}"), |device| epilogue(l, [true; 3], tracked, device));
        }
    }
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
        // too few channels for Winograd's minimal filtering
        compare("narrow tower", |device| maps(&PYRAMID, [3, 2], bias, Activation::Relu, device));
    }
    compare("group norm", |device| normed_maps(&PYRAMID, device));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sizes_of_maps_do_not_matter(list in prop::collection::vec((1usize..20, 1usize..20), 1..4)) {
        let list: Vec<[usize; 2]> = list.into_iter().map(|(h, w)| [h, w]).chain([[17, 24]]).collect();
        // No ReLU: one of the many values can be so close to zero that its sign, and so its gradient, differs.
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
    let _guard = fused_kernels();
    let device = Device::flex().autodiff();
    assert_same_on_any_threads(|| maps(&PYRAMID, [40, 33], true, Activation::Relu, &device));
    assert_same_on_any_threads(|| normed_maps(&PYRAMID, &device));
    for l in LAYERS {
        assert_same_on_any_threads(|| epilogue(l, [true; 3], [true; 4], &device));
    }
}
