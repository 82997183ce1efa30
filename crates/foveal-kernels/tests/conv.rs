//! The own convolution against Burn's.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

mod common;

use burn::tensor::{Device, Tensor};
use common::*;
use foveal_kernels::{Conv2d, conv2d, conv2d_plain};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    bias: bool,
}

/// Which of input, weight and bias learn.
type Tracked = [bool; 3];

fn run(c: Case, tracked: Tracked, device: &Device, plain: bool) -> (Vec<f32>, [Option<Vec<f32>>; 3]) {
    let x = leaf(1, [c.batch, c.in_channels, c.height, c.width], device, tracked[0]);
    let w = leaf(2, [c.out_channels, c.in_channels, c.kernel, c.kernel], device, tracked[1]);
    let b = c.bias.then(|| leaf(3, [c.out_channels], device, tracked[2]));
    let conv = if plain { conv2d_plain } else { conv2d };
    let y = conv(x.clone(), w.clone(), b.clone(), c.stride, c.padding);
    let out = to_vec(y.clone());
    if !device.is_autodiff() || !tracked.contains(&true) {
        return (out, [None, None, None]);
    }
    let weights = tensor(4, y.dims(), device);
    let grads = (y * weights).sum().backward();
    (out, [x.grad(&grads).map(to_vec), w.grad(&grads).map(to_vec), b.and_then(|b| b.grad(&grads)).map(to_vec)])
}

fn check(c: Case, device: &Device) {
    let (y, grads) = run(c, [true; 3], device, false);
    let (plain, plain_grads) = run(c, [true; 3], &Device::flex().autodiff(), true);
    let list = |y, grads: [Option<Vec<f32>>; 3]| -> Vec<Vec<f32>> {
        std::iter::once(y).chain(grads.into_iter().flatten()).collect()
    };
    assert_close(&format!("{c:?}"), &list(y, grads), &list(plain, plain_grads));
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (1usize..3, 1usize..40, 1usize..20, 1usize..24, 1usize..24);
    let window = (prop_oneof![Just(1usize), Just(2), Just(3), Just(7)], 1usize..4, 0usize..5, any::<bool>());
    (sizes, window)
        .prop_map(|((batch, in_channels, out_channels, height, width), (kernel, stride, padding, bias))| Case {
            batch,
            in_channels,
            out_channels,
            height,
            width,
            kernel,
            stride,
            padding,
            bias,
        })
        .prop_filter("the kernel fits", |c| c.height.min(c.width) + 2 * c.padding >= c.kernel)
}

fn towers() -> impl Strategy<Value = Case> {
    (1usize..4, 16usize..40, 16usize..40, 18usize..40, 18usize..40, any::<bool>()).prop_map(
        |(batch, in_channels, out_channels, height, width, bias)| Case {
            batch,
            in_channels,
            out_channels,
            height,
            width,
            bias,
            ..TOWER
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flex_equals_burn(c in cases()) {
        check(c, &Device::flex().autodiff());
    }

    /// Enough channels and pixels for Winograd's way.
    #[test]
    fn towers_equal_burn(c in towers()) {
        check(c, &Device::flex().autodiff());
    }
}

const STEM: Case = Case {
    batch: 2,
    in_channels: 3,
    out_channels: 64,
    height: 65,
    width: 50,
    kernel: 7,
    stride: 2,
    padding: 3,
    bias: false,
};
const TOWER: Case = Case {
    batch: 2,
    in_channels: 96,
    out_channels: 40,
    height: 40,
    width: 33,
    kernel: 3,
    stride: 1,
    padding: 1,
    bias: true,
};
const DOWN: Case = Case {
    batch: 2,
    in_channels: 70,
    out_channels: 24,
    height: 33,
    width: 31,
    kernel: 3,
    stride: 2,
    padding: 1,
    bias: true,
};
const POINT: Case = Case {
    batch: 1,
    in_channels: 300,
    out_channels: 30,
    height: 20,
    width: 41,
    kernel: 1,
    stride: 1,
    padding: 0,
    bias: true,
};
const SHORTCUT: Case = Case {
    batch: 2,
    in_channels: 260,
    out_channels: 8,
    height: 15,
    width: 14,
    kernel: 1,
    stride: 2,
    padding: 0,
    bias: false,
};
const LAYERS: [Case; 5] = [STEM, TOWER, DOWN, POINT, SHORTCUT];

#[test]
fn a_networks_layers_equal_burns_on_both_cpu_backends() {
    for c in LAYERS {
        check(c, &Device::flex().autodiff());
        check(c, &Device::ndarray().autodiff());
        // recomputing what is cheap, under the other checkpointing strategy
        check(c, &Device::flex().autodiff().gradient_checkpointing());
    }
}

#[test]
fn only_the_gradients_that_are_needed_exist() {
    let device = Device::flex().autodiff();
    let (_, all) = run(TOWER, [true; 3], &device, false);
    for i in 0..7u8 {
        let tracked = [i & 1 > 0, i & 2 > 0, i & 4 > 0];
        let (_, grads) = run(TOWER, tracked, &device, false);
        for (t, (got, expected)) in tracked.iter().zip(grads.iter().zip(&all)) {
            assert_eq!(got.as_ref(), expected.as_ref().filter(|_| *t), "{tracked:?}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for c in LAYERS {
        assert_same_on_any_threads(|| {
            let (y, [dx, dw, db]) = run(c, [true; 3], &Device::flex().autodiff(), false);
            [Some(y), dx, dw, db].into_iter().flatten().collect()
        });
    }
}

#[test]
fn a_view_is_read_by_its_strides() {
    for device in [Device::flex(), Device::ndarray()] {
        let whole = tensor(5, [2, 9, 8, 6], &device);
        let view = whole.clone().swap_dims(2, 3).slice([0..2, 2..8, 0..6, 1..8]);
        let copy = Tensor::<4>::from_data(view.clone().into_data(), &device);
        let w = tensor(6, [4, 6, 3, 3], &device);
        let (got, expected) = (conv2d(view, w.clone(), None, 1, 1), conv2d(copy, w, None, 1, 1));
        assert_eq!(to_vec(got), to_vec(expected));
    }
}

#[test]
fn chained_layers_share_a_checkpointed_relu() {
    let grads = |device: Device, plain: bool| {
        let conv = if plain { conv2d_plain } else { conv2d };
        let x = leaf(7, [1, 4, 9, 9], &device, true);
        let (a, b) = (leaf(8, [5, 4, 3, 3], &device, true), leaf(9, [5, 5, 3, 3], &device, true));
        let y = burn::tensor::activation::relu(conv(x.clone(), a.clone(), None, 1, 1));
        let y = conv(y.clone(), b.clone(), None, 1, 1) + y;
        let grads = (y * tensor(10, [1, 5, 9, 9], &device)).sum().backward();
        [a.grad(&grads), b.grad(&grads), x.grad(&grads)].map(|g| to_vec(g.expect("a gradient"))).to_vec()
    };
    let plain = grads(Device::flex().autodiff(), true);
    assert_close("keeping", &grads(Device::flex().autodiff(), false), &plain);
    assert_close("recomputing", &grads(Device::flex().autodiff().gradient_checkpointing(), false), &plain);
}

#[test]
fn a_layer_is_its_function() {
    let device = Device::flex();
    let (x, w, b) = (tensor(1, [1, 3, 5, 5], &device), tensor(2, [2, 3, 3, 3], &device), tensor(3, [2], &device));
    let layer = Conv2d::new(w.clone(), Some(b.clone()), 2, 1);
    assert_eq!(to_vec(layer.forward(x.clone())), to_vec(conv2d(x, w, Some(b), 2, 1)));
}

#[test]
#[should_panic(expected = "the channels differ")]
fn shapes_that_do_not_fit_are_named() {
    let device = Device::flex();
    conv2d(tensor(1, [1, 3, 5, 5], &device), tensor(2, [2, 4, 3, 3], &device), None, 1, 1);
}
