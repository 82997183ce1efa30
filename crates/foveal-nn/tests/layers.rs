//! The layers against the functions that they apply.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

#[path = "../../foveal-kernels/tests/common/mod.rs"]
mod common;

use burn::module::{Module, Param, RunningState};
use burn::tensor::{Device, Tensor};
use common::*;
use foveal_kernels::{conv2d, set_reference};
use foveal_nn::{Activation, Conv2d, ConvOptions, Norm, NormKind};

/// A frozen norm with random statistics, scale and shift.
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
    groups: usize,
    residual: bool,
    activation: Activation,
}

const fn layer(channels: [usize; 2], size: [usize; 2], window: [usize; 2], groups: usize) -> Layer {
    let ([inputs, outputs], [kernel, stride]) = (channels, window);
    Layer { inputs, outputs, size, kernel, stride, groups, residual: false, activation: Activation::Relu }
}

const LAYERS: [Layer; 6] = [
    Layer { residual: true, ..layer([20, 18], [22, 27], [3, 1], 1) },
    Layer { residual: true, ..layer([20, 30], [9, 13], [1, 1], 1) },
    layer([5, 7], [12, 9], [3, 2], 1),
    Layer { activation: Activation::None, ..layer([24, 16], [21, 20], [3, 1], 1) },
    Layer { residual: true, ..layer([32, 32], [11, 10], [3, 1], 8) },
    layer([24, 24], [12, 9], [3, 2], 4),
];

fn conv_norm(l: Layer, tracked: [bool; 3], device: &Device) -> Vec<Vec<f32>> {
    let x = leaf(1, [2, l.inputs, l.size[0], l.size[1]], device, tracked[0]);
    let options = ConvOptions { stride: l.stride, padding: l.kernel / 2, groups: l.groups };
    let conv = Conv2d::new(tensor(2, [l.outputs, l.inputs / l.groups, l.kernel, l.kernel], device), None, options);
    let conv = if tracked[1] { conv } else { conv.no_grad() };
    let out = |size: usize| size.div_ceil(l.stride);
    let rest = leaf(3, [2, l.outputs, out(l.size[0]), out(l.size[1])], device, tracked[2]);
    let y = conv.forward_norm(x.clone(), &frozen(l.outputs, device), l.residual.then(|| rest.clone()), l.activation);
    if tracked == [false; 3] {
        return vec![to_vec(y)];
    }
    with_grads(y, vec![grad_of(&x), grad_of(&conv.weight.val()), grad_of(&rest)])
}

#[test]
fn a_frozen_norm_in_the_convolution_equals_one_after_it() {
    for l in LAYERS {
        for i in 0..8u8 {
            let tracked = [i & 1 > 0, i & 2 > 0, i & 4 > 0 && l.residual];
            compare(&format!("{l:?} tracked {tracked:?}"), |device| conv_norm(l, tracked, device));
        }
    }
}

/// A norm with the values of [`frozen`] whose scale and shift are trained.
fn fixed_statistics(channels: usize, device: &Device) -> Norm {
    let mut norm = frozen(channels, device);
    norm.kind = NormKind::FrozenStatistics;
    (norm.weight, norm.bias) = (norm.weight.set_require_grad(true), norm.bias.set_require_grad(true));
    norm
}

/// A convolution and a norm with fixed statistics: the result, and the gradients of what is tracked and of scale and
/// shift. `apart` computes the norm as an operation of its own.
fn trained_norm(l: Layer, tracked: [bool; 3], apart: bool, device: &Device) -> Vec<Vec<f32>> {
    let x = leaf(1, [2, l.inputs, l.size[0], l.size[1]], device, tracked[0]);
    let options = ConvOptions { stride: l.stride, padding: l.kernel / 2, groups: l.groups };
    let conv = Conv2d::new(tensor(2, [l.outputs, l.inputs / l.groups, l.kernel, l.kernel], device), None, options);
    let conv = if tracked[1] { conv } else { conv.no_grad() };
    let out = |size: usize| size.div_ceil(l.stride);
    let rest = leaf(3, [2, l.outputs, out(l.size[0]), out(l.size[1])], device, tracked[2]);
    let (norm, residual) = (fixed_statistics(l.outputs, device), l.residual.then(|| rest.clone()));
    let y = match apart {
        true => norm.forward(conv.forward(x.clone()), residual, l.activation),
        false => conv.forward_norm(x.clone(), &norm, residual, l.activation),
    };
    let leaves = [grad_of(&x), grad_of(&conv.weight.val()), grad_of(&rest)];
    let of_norm = [grad_of(&norm.weight.val()), grad_of(&norm.bias.val())];
    let found = with_grads(y, leaves.into_iter().chain(of_norm).collect());
    assert_eq!(found.len(), 1 + tracked.iter().filter(|t| **t).count() + 2, "{l:?}: gradients");
    found
}

#[test]
fn a_trained_norm_with_fixed_statistics_in_the_convolution_equals_one_after_it() {
    let _guard = fused_kernels();
    for l in LAYERS {
        for i in 0..8u8 {
            let tracked = [i & 1 > 0, i & 2 > 0, i & 4 > 0 && l.residual];
            set_reference(true);
            let expected = trained_norm(l, tracked, true, &Device::flex().autodiff());
            set_reference(false);
            let recomputing = Device::flex().autodiff().gradient_checkpointing();
            for device in [Device::flex().autodiff(), recomputing, Device::ndarray().autodiff()] {
                let what = format!("{l:?} tracked {tracked:?} on {device:?}");
                assert_close(&what, &trained_norm(l, tracked, false, &device), &expected);
            }
        }
    }
}

#[test]
fn statistics_that_are_fixed_stay_as_they_are() {
    let device = Device::flex().autodiff();
    let norm = fixed_statistics(4, &device);
    let statistics = || [&norm.running_mean, &norm.running_var].map(|s| to_vec(s.as_ref().unwrap().value_sync()));
    let before = statistics();
    let conv = Conv2d::same(tensor(2, [4, 3, 3, 3], &device), None, 1);
    let _ = conv.forward_norm(tensor(1, [2, 3, 6, 5], &device), &norm, None, Activation::Relu);
    assert!(!norm.keeps_statistics());
    assert_eq!(statistics(), before);
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu_trains_a_norm_with_fixed_statistics_as_the_cpu_does() {
    let l = Layer { residual: true, ..layer([4, 6], [6, 5], [1, 1], 1) };
    let run = |device: Device| trained_norm(l, [true; 3], false, &device.autodiff());
    assert_close("wgpu", &run(foveal_kernels::test_adapter()), &run(Device::flex()));
}

#[test]
fn a_norm_by_the_statistics_of_the_batch_stays_an_operation_of_its_own() {
    compare("batch norm", |device| {
        let x = leaf(1, [2, 6, 9, 8], device, true);
        let conv = Conv2d::same(tensor(2, [4, 6, 3, 3], device), None, 1);
        let norm = Norm::new(4, NormKind::Batch, 1e-5, device);
        let y = conv.forward_norm(x.clone(), &norm, None, Activation::Relu);
        with_grads(y, vec![grad_of(&x), grad_of(&conv.weight.val()), grad_of(&norm.weight.val())])
    });
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let _guard = fused_kernels();
    let device = Device::flex().autodiff();
    for l in LAYERS {
        assert_same_on_any_threads(|| conv_norm(l, [true; 3], &device));
        assert_same_on_any_threads(|| trained_norm(l, [true, true, l.residual], false, &device));
    }
}

#[test]
fn a_layer_is_its_function() {
    let _guard = fused_kernels();
    let device = Device::flex();
    for groups in [1, 3] {
        let options = ConvOptions { stride: 2, padding: 1, groups };
        let (x, b) = (tensor(1, [1, 3, 5, 5], &device), tensor(3, [6], &device));
        let w: Tensor<4> = tensor(2, [6, 3 / groups, 3, 3], &device);
        let layer = Conv2d::new(w.clone(), Some(b.clone()), options);
        assert_eq!(to_vec(layer.forward(x.clone())), to_vec(conv2d(x, w, Some(b), options)));
    }
}

#[test]
fn a_layer_of_the_same_size_has_half_its_kernel_as_padding() {
    let device = Device::flex();
    for (kernel, padding) in [(1, 0), (3, 1), (7, 3)] {
        let layer = Conv2d::same(tensor(2, [4, 3, kernel, kernel], &device), None, 2);
        assert_eq!(layer.options, ConvOptions { stride: 2, padding, groups: 1 });
    }
}
