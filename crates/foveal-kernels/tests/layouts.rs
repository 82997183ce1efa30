//! The operations on maps take maps with any order of the axes in memory, and their results have the channels last.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

mod common;

use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::tensor::{Device, Tensor};
use common::*;
use foveal_kernels::*;

/// Odd numbers of channels, and numbers with and without a rest after blocks of 16.
const CHANNELS: [usize; 5] = [1, 3, 17, 24, 32];

/// A tensor with the same values and its channels last in memory.
fn stored_last<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let last = (1..D - 1).fold(x, |x, axis| x.swap_dims(axis, axis + 1)) * 1.0;
    (1..D - 1).rev().fold(last, |x, axis| x.swap_dims(axis, axis + 1))
}

/// Whether the channels of a tensor of the flex backend are last in memory.
fn is_stored_last<const D: usize>(x: &Tensor<D>) -> bool {
    fn strides(kind: &DispatchTensorKind) -> Vec<isize> {
        match kind {
            DispatchTensorKind::Flex(BackendTensor::Float(x)) => x.layout().strides().to_vec(),
            DispatchTensorKind::Flex(BackendTensor::Autodiff(x)) => x.primitive().layout().strides().to_vec(),
            DispatchTensorKind::Autodiff(inner) => strides(inner),
            _ => panic!("expected a tensor of the flex backend"),
        }
    }
    x.dims()[1] == 1 || strides(&x.clone().into_dispatch().kind)[1] == 1
}

/// Returns `y`, and hands a gradient to the operation that computed it which has the channels last in memory.
fn with_grad_last(y: Tensor<4>) -> Tensor<4> {
    let (channels, device) = (y.dims()[1], y.device());
    affine(y, Tensor::ones([channels], &device), Tensor::zeros([channels], &device), None, Activation::None)
}

/// [`with_grad_last`] for joined maps.
fn with_grad_last_joined(y: Tensor<3>) -> Tensor<3> {
    channels_last(y).swap_dims(1, 2)
}

/// Checks that `f` gives the same values and gradients, bit by bit, however its maps and the gradient of its result are
/// stored, and that its result and the gradients of the maps have the channels last.
fn check<const D: usize, const R: usize>(
    what: &str,
    dims: [[usize; D]; 2],
    with_grad_last: fn(Tensor<R>) -> Tensor<R>,
    f: impl Fn([Tensor<D>; 2], &Device) -> Tensor<R>,
) {
    let _guard = fused_kernels();
    let run = |device: &Device, last: [bool; 3]| {
        let maps: [Tensor<D>; 2] = [0, 1].map(|i| {
            let map = tensor(i as u64 + 1, dims[i], device);
            if last[i] { stored_last(map) } else { map }.require_grad()
        });
        let y = f(maps.clone(), device);
        let result = if last[2] { with_grad_last(y.clone()) } else { y.clone() };
        let grads = (result * tensor(99, y.dims(), device)).sum().backward();
        let of_maps = maps.map(|map| map.grad(&grads).expect("a gradient"));
        if *device == Device::flex().autodiff() {
            assert!(is_stored_last(&y), "{what}: the result, from {last:?}");
            assert!(of_maps.iter().all(is_stored_last), "{what}: the gradients, from {last:?}");
        }
        let [a, b] = of_maps.map(to_vec);
        [to_vec(y), a, b]
    };
    for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
        let expected = run(&device, [false; 3]);
        for stored in 1..8 {
            let last = [0, 1, 2].map(|i| stored >> i & 1 == 1);
            assert_eq!(run(&device, last), expected, "{what}: {last:?} on {device:?}");
        }
    }
}

#[test]
fn affine_maps_and_relu() {
    for channels in CHANNELS {
        let dims = [2, channels, 6, 9];
        for activation in [Activation::None, Activation::Relu] {
            let what = format!("affine {channels} {activation:?}");
            check(&what, [dims; 2], with_grad_last, |[x, rest], device| {
                let (scale, shift) = (leaf(3, [channels], device, true), leaf(4, [channels], device, true));
                affine(x, scale, shift, Some(rest), activation)
            });
        }
        check(&format!("relu {channels}"), [dims; 2], with_grad_last, |[x, rest], device| {
            let ones = Tensor::ones([channels], device);
            affine(relu(x), ones.clone(), ones, Some(relu(rest)), Activation::None)
        });
    }
}

#[test]
fn pooling_and_upsampling() {
    for channels in CHANNELS {
        for [height, width] in [[6, 9], [1, 4], [7, 2]] {
            let dims = [2, channels, height, width];
            check(&format!("pool {dims:?}"), [dims; 2], with_grad_last, |[x, rest], device| {
                let ones = Tensor::ones([channels], device);
                let [x, rest] = [x, rest].map(max_pool_3x3_s2_p1);
                affine(x, ones.clone(), ones, Some(rest), Activation::None)
            });
            let top = [2, channels, height.div_ceil(2), width.div_ceil(2)];
            check(&format!("upsample {dims:?}"), [dims, top], with_grad_last, |[a, b], _| upsample_add(a, b));
        }
    }
}

#[test]
fn normalised_maps() {
    for channels in CHANNELS {
        let dims = [2, channels, 6, 9];
        let parameters =
            |device: &Device| (leaf(3, [channels], device, true), leaf(4, [channels], device, true));
        let sum = |[a, b]: [Tensor<4>; 2], device: &Device| {
            let ones = Tensor::ones([channels], device);
            affine(a, ones.clone(), ones, Some(b), Activation::None)
        };
        check(&format!("batch norm {channels}"), [dims; 2], with_grad_last, |maps, device| {
            let (w, b) = parameters(device);
            sum(maps.map(|x| batch_norm_train(x, w.clone(), b.clone(), 1e-5).y), device)
        });
        let groups = if channels.is_multiple_of(4) { channels / 4 } else { 1 };
        for activation in [Activation::None, Activation::Relu] {
            let what = format!("group norm {channels} {activation:?}");
            check(&what, [dims; 2], with_grad_last, |maps, device| {
                let (w, b) = parameters(device);
                sum(maps.map(|x| group_norm(x, w.clone(), b.clone(), groups, 1e-5, activation)), device)
            });
        }
    }
}

#[test]
fn joined_maps() {
    for channels in CHANNELS {
        let dims = [[2, channels, 6, 9], [2, channels, 3, 5]];
        let sizes = dims.map(|[_, _, height, width]| MapSize { height, width });
        check(&format!("join {channels}"), dims, with_grad_last_joined, |maps, _| join_maps(&maps));
        check(&format!("normalised {channels}"), dims, with_grad_last_joined, |maps, device| {
            let (w, b) = (leaf(3, [channels], device, true), leaf(4, [channels], device, true));
            group_norm_maps(join_maps(&maps), &sizes, w, b, 1, 1e-5, Activation::Relu)
        });
    }
}

#[test]
fn joined_maps_are_one_after_the_other_in_each_channel() {
    for count in [1, 2, 5, 8, 9] {
        for tracked in [0, 1, usize::MAX] {
            compare(&format!("{count} maps, tracked {tracked:b}"), |device| {
                let map = |i: usize| leaf(i as u64, [2, 5, 1 + i % 3, 2 + i], device, tracked >> i & 1 == 1);
                let maps: Vec<Tensor<4>> = (0..count).map(map).collect();
                let joined = join_maps(&maps);
                if tracked == 0 { vec![to_vec(joined)] } else { with_grads(joined, maps.iter().map(grad_of).collect()) }
            });
        }
    }
}

/// Values of all anchors are views of the memory of the last layer's result, and so is the gradient of that layer.
#[test]
fn channels_that_are_last_in_memory_are_not_copied() {
    let device = Device::flex().autodiff();
    let x = stored_last(tensor::<3>(1, [2, 6, 11], &device)).require_grad();
    let address = |x: &Tensor<3>| match x.clone().into_dispatch().kind {
        DispatchTensorKind::Autodiff(inner) => match *inner {
            DispatchTensorKind::Flex(BackendTensor::Autodiff(x)) => x.primitive().bytes().as_ptr() as usize,
            _ => panic!("expected a tensor of the flex backend"),
        },
        _ => panic!("expected a tracked tensor"),
    };
    let rows = channels_last(x.clone()).reshape([2, 22, 3]);
    assert_eq!(address(&rows), address(&x));
    let grads = (rows * tensor(2, [2, 22, 3], &device)).sum().backward();
    assert!(is_stored_last(&x.grad(&grads).expect("a gradient")));
}
