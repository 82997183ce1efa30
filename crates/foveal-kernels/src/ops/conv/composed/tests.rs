//! Compares the composed convolution with Burn's operations one after the other, on the CPU backends.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

use burn::backend::Flex;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use super::super::geometry::Geometry;
use super::super::options::ConvOptions;
use super::super::{Epilogue, run_reference};
use super::passes::{Kernel, Spec, convolved, outputs_at_once};
use super::{conv, runs_as_input_gradient};
use crate::ops::elementwise::Activation;
use crate::set_reference;
use crate::test_common::{assert_close, fused_kernels, grad_of, leaf, relative, tensor, to_vec, with_grads};

#[derive(Clone, Copy, Debug)]
struct Layer {
    inputs: usize,
    outputs: usize,
    size: [usize; 2],
    options: ConvOptions,
    kernel: usize,
    activation: Activation,
}

const fn layer(channels: [usize; 2], size: [usize; 2], window: [usize; 2], groups: usize) -> Layer {
    let ([inputs, outputs], [kernel, stride]) = (channels, window);
    let options = ConvOptions { stride, padding: kernel / 2, groups };
    Layer { inputs, outputs, size, options, kernel, activation: Activation::Relu }
}

/// Pointwise, turned with equal and with unequal channels, strided, grouped, and the first layer of a ResNet.
const LAYERS: [Layer; 7] = [
    layer([5, 7], [6, 9], [1, 1], 1),
    layer([6, 6], [7, 5], [3, 1], 1),
    Layer { activation: Activation::None, ..layer([4, 6], [7, 5], [3, 1], 1) },
    layer([4, 6], [8, 7], [3, 2], 1),
    layer([4, 6], [6, 7], [3, 1], 2),
    Layer { activation: Activation::None, ..layer([6, 4], [7, 7], [1, 2], 2) },
    layer([3, 4], [11, 12], [7, 2], 1),
];

/// A convolution with its epilogue.
type Conv = fn(Tensor<4>, Tensor<4>, Epilogue, Geometry) -> Tensor<4>;

fn composed(x: Tensor<4>, weight: Tensor<4>, epilogue: Epilogue, geometry: Geometry) -> Tensor<4> {
    conv(x, weight, epilogue, geometry, None)
}

/// The result and the gradients of a layer with the given parts (scale, shift, residual, mask) and leaves that are
/// trained (input, weight, shift, residual), for maps of the data type `maps`.
fn results(l: Layer, parts: [bool; 4], tracked: [bool; 4], maps: DType, device: &Device, conv: Conv) -> Vec<Vec<f32>> {
    let [scale, shift, residual, mask] = parts;
    let dims = [2, l.inputs, l.size[0], l.size[1]];
    let weight = [l.outputs, l.inputs / l.options.groups, l.kernel, l.kernel];
    let geometry = Geometry::new(dims, weight, None, l.options);
    let (x, w) = (leaf(1, dims, device, tracked[0]), leaf(2, weight, device, tracked[1]));
    let b = leaf(3, [l.outputs], device, tracked[2]);
    let rest = leaf(4, geometry.output_dims(), device, tracked[3]);
    let epilogue = Epilogue {
        scale: scale.then(|| tensor(5, [l.outputs], device)),
        shift: shift.then(|| b.clone()),
        residual: residual.then(|| rest.clone().cast(maps)),
        activation: l.activation,
        mask: mask.then(|| zeros_and_ones(geometry, device).cast(maps)),
    };
    let y = conv(x.clone().cast(maps), w.clone(), epilogue, geometry);
    assert_eq!(y.dtype(), maps);
    let y = y.cast(FloatDType::F32);
    if ![tracked[0], tracked[1], tracked[2] && shift, tracked[3] && residual].contains(&true) {
        return vec![to_vec(y)];
    }
    with_grads(y, vec![grad_of(&x), grad_of(&w), grad_of(&b), grad_of(&rest)])
}

/// A mask of the output's height and width, with zeros in every third column.
fn zeros_and_ones(geometry: Geometry, device: &Device) -> Tensor<4> {
    let [_, _, height, width] = geometry.output_dims();
    let values: Vec<f32> = (0..height * width).map(|i| f32::from(u8::from(i % width % 3 != 1))).collect();
    Tensor::from_data(TensorData::new(values, [1, 1, height, width]), device)
}

fn bits<const N: usize>(i: usize) -> [bool; N] {
    std::array::from_fn(|bit| i >> bit & 1 == 1)
}

fn check(l: Layer, parts: [bool; 4], tracked: [bool; 4]) {
    let _guard = fused_kernels();
    set_reference(true);
    let expected = results(l, parts, tracked, DType::F32, &Device::flex().autodiff(), run_reference);
    set_reference(false);
    let recomputing = Device::flex().autodiff().gradient_checkpointing();
    for device in [Device::flex().autodiff(), recomputing, Device::ndarray().autodiff()] {
        let what = format!("{l:?}, parts {parts:?}, tracked {tracked:?}, {device:?}");
        assert_close(&what, &results(l, parts, tracked, DType::F32, &device, composed), &expected);
    }
}

#[test]
fn composed_convolutions_equal_one_operation_after_the_other() {
    for l in LAYERS {
        for parts in (0..16).map(bits) {
            check(l, parts, [true; 4]);
        }
    }
}

#[test]
fn composed_convolutions_have_the_gradients_of_what_learns() {
    for l in LAYERS {
        for tracked in (0..16).map(bits) {
            check(l, [true; 4], tracked);
        }
    }
}

#[test]
fn a_composed_convolution_runs_without_autodiff() {
    for l in LAYERS {
        let run = |conv| results(l, [true; 4], [false; 4], DType::F32, &Device::flex(), conv);
        assert_close(&format!("{l:?}"), &run(composed), &run(run_reference));
    }
}

/// Largest difference of results of 16-bit maps, which are rounded to 11 bits, divided by the largest value.
const ROUNDING: f32 = 1e-2;

/// Without a ReLU: it would turn the rounding of a value near zero into a gradient that is missing.
#[test]
fn maps_of_16_bits_differ_from_32_bits_by_their_rounding_only() {
    let device = Device::flex().autodiff();
    assert!(device.supports_dtype(DType::F16), "flex stores 16-bit maps");
    for l in LAYERS.map(|l| Layer { activation: Activation::None, ..l }) {
        for parts in (0..16).map(bits) {
            let run = |maps| results(l, parts, [true; 4], maps, &device, composed);
            let exact = run(DType::F32);
            for (i, (half, exact)) in run(DType::F16).iter().zip(&exact).enumerate() {
                let error = relative(half, exact);
                // Equal bits would mean that nothing was rounded.
                assert!(0.0 < error && error < ROUNDING, "{l:?}, {parts:?}: result {i} differs by {error:e}");
            }
        }
    }
}

#[test]
fn composed_convolutions_of_16_bits_equal_one_operation_after_the_other() {
    let device = Device::flex().autodiff();
    for l in LAYERS {
        for parts in (0..16).map(bits) {
            let run = |conv| results(l, parts, [true; 4], DType::F16, &device, conv);
            let (found, expected) = (run(composed), run(run_reference));
            assert_eq!(found.len(), expected.len());
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let error = relative(found, expected);
                assert!(error < ROUNDING, "{l:?}, {parts:?}: result {i} differs by {error:e}");
            }
        }
    }
}

#[test]
fn only_3x3_convolutions_of_32_bits_run_as_input_gradients() {
    let runs = |l: Layer, maps| {
        let dims = [2, l.inputs, l.size[0], l.size[1]];
        let weight = [l.outputs, l.inputs / l.options.groups, l.kernel, l.kernel];
        runs_as_input_gradient(&Geometry::new(dims, weight, None, l.options), maps)
    };
    assert_eq!(LAYERS.map(|l| runs(l, DType::F32)), [false, true, true, false, false, false, false]);
    assert_eq!(LAYERS.map(|l| runs(l, DType::F16)), [false; 7]);
}

/// Parts of the output channels, of equal and of unequal sizes, give what all of them together give.
#[test]
fn output_channels_may_be_computed_in_parts() {
    let device = Device::flex();
    let l = layer([3, 7], [6, 5], [3, 1], 1);
    let geometry = Geometry::new([2, 3, 6, 5], [7, 3, 3, 3], None, l.options);
    let (x, w) = (tensor::<4>(1, [2, 3, 6, 5], &device), tensor::<4>(2, [7, 3, 3, 3], &device));
    let turned = w.clone().permute([1, 0, 2, 3]).flip([2, 3]);
    let spec = Spec { geometry, activation: Activation::None, scale_in_weight: false, only_bias: false };
    let expected = to_vec(run_reference(x.clone(), w, Epilogue::default(), geometry));
    let primitive = |t: Tensor<4>| t.try_into_primitive::<Flex>().expect("a tensor of flex");
    for at_once in [1, 3, 7] {
        let kernel = Kernel::Turned { weight: primitive(turned.clone()), at_once };
        let y = convolved::<Flex>(primitive(x.clone()), kernel, &spec);
        let y = Tensor::<4>::from_primitive::<Flex>(y);
        assert_close(&format!("{at_once} at once"), &[to_vec(y)], std::slice::from_ref(&expected));
    }
}

#[test]
fn the_columns_of_the_forward_pass_are_bounded() {
    let at_once = |batch, channels: [usize; 2], [height, width]: [usize; 2]| {
        let options = ConvOptions { stride: 1, padding: 1, groups: 1 };
        let (input, weight) = ([batch, channels[0], height, width], [channels[1], channels[0], 3, 3]);
        outputs_at_once(&Geometry::new(input, weight, None, options))
    };
    // P3 of 800x1344: the columns of the class layer are not larger than those of its weight's gradient.
    assert_eq!(at_once(1, [256, 720], [100, 168]), 256);
    assert_eq!(at_once(16, [256, 9 * 1203], [100, 168]), 256);
    assert_eq!(at_once(1, [256, 256], [100, 168]), 256);
    assert_eq!(at_once(1, [256, 36], [100, 168]), 36);
    // Small maps are computed at once.
    assert_eq!(at_once(2, [256, 720], [13, 21]), 720);
}
