//! Compares the fused convolution with Burn's.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

mod common;

use burn::tensor::{Device, Tensor};
use common::*;
use foveal_kernels::{ConvOptions, conv2d, conv2d_reference};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    height: usize,
    width: usize,
    kernel: usize,
    options: ConvOptions,
    bias: bool,
}

const fn options(stride: usize, padding: usize, groups: usize) -> ConvOptions {
    ConvOptions { stride, padding, groups }
}

/// Which of input, weight and bias require a gradient.
type Tracked = [bool; 3];

fn run(c: Case, tracked: Tracked, device: &Device, reference: bool) -> (Vec<f32>, [Option<Vec<f32>>; 3]) {
    let x = leaf(1, [c.batch, c.in_channels, c.height, c.width], device, tracked[0]);
    let w = leaf(2, [c.out_channels, c.in_channels / c.options.groups, c.kernel, c.kernel], device, tracked[1]);
    let b = c.bias.then(|| leaf(3, [c.out_channels], device, tracked[2]));
    let conv = if reference { conv2d_reference } else { conv2d };
    let y = conv(x.clone(), w.clone(), b.clone(), c.options);
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
    let (reference, reference_grads) = run(c, [true; 3], &Device::flex().autodiff(), true);
    let list = |y, grads: [Option<Vec<f32>>; 3]| -> Vec<Vec<f32>> {
        std::iter::once(y).chain(grads.into_iter().flatten()).collect()
    };
    assert_close(&format!("{c:?}"), &list(y, grads), &list(reference, reference_grads));
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
            options: options(stride, padding, 1),
            bias,
        })
        .prop_filter("the kernel fits", |c| c.height.min(c.width) + 2 * c.options.padding >= c.kernel)
}

/// Convolutions with 1 to 9 groups, each with 1 to 11 input and output channels.
fn grouped() -> impl Strategy<Value = Case> {
    (cases(), 1usize..10, 1usize..12, 1usize..12).prop_map(|(c, groups, inputs, outputs)| Case {
        in_channels: groups * inputs,
        out_channels: groups * outputs,
        options: ConvOptions { groups, ..c.options },
        ..c
    })
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

    #[test]
    fn groups_equal_burn(c in grouped()) {
        check(c, &Device::flex().autodiff());
    }

    /// Enough channels and pixels for Winograd's minimal filtering.
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
    options: options(2, 3, 1),
    bias: false,
};
const TOWER: Case = Case {
    batch: 2,
    in_channels: 96,
    out_channels: 40,
    height: 40,
    width: 33,
    kernel: 3,
    options: options(1, 1, 1),
    bias: true,
};
const DOWN: Case = Case {
    batch: 2,
    in_channels: 70,
    out_channels: 24,
    height: 33,
    width: 31,
    kernel: 3,
    options: options(2, 1, 1),
    bias: true,
};
const POINT: Case = Case {
    batch: 1,
    in_channels: 300,
    out_channels: 30,
    height: 20,
    width: 41,
    kernel: 1,
    options: options(1, 0, 1),
    bias: true,
};
const SHORTCUT: Case = Case {
    batch: 2,
    in_channels: 260,
    out_channels: 8,
    height: 15,
    width: 14,
    kernel: 1,
    options: options(2, 0, 1),
    bias: false,
};
/// ResNeXt-50 32x4d, layer1: 32 groups of 4 channels.
const NARROW_GROUPS: Case = Case {
    batch: 2,
    in_channels: 128,
    out_channels: 128,
    height: 19,
    width: 22,
    kernel: 3,
    options: options(1, 1, 32),
    bias: false,
};
/// The first block of a later stage: stride 2; more than one panel of rows and of columns in a group.
const DOWN_GROUPS: Case = Case {
    batch: 2,
    in_channels: 96,
    out_channels: 120,
    height: 21,
    width: 17,
    kernel: 3,
    options: options(2, 1, 6),
    bias: true,
};
/// Groups so wide that their depth needs several blocks, and large enough for Winograd's filtering without groups.
const WIDE_GROUPS: Case = Case {
    batch: 1,
    in_channels: 80,
    out_channels: 56,
    height: 30,
    width: 33,
    kernel: 3,
    options: options(1, 1, 2),
    bias: true,
};
/// A 1x1 convolution in groups.
const POINT_GROUPS: Case = Case {
    batch: 2,
    in_channels: 60,
    out_channels: 36,
    height: 13,
    width: 18,
    kernel: 1,
    options: options(1, 0, 4),
    bias: true,
};
/// One channel a group, as in ConvNeXt.
const DEPTHWISE: Case = Case {
    batch: 2,
    in_channels: 10,
    out_channels: 10,
    height: 14,
    width: 15,
    kernel: 7,
    options: options(1, 3, 10),
    bias: true,
};
const LAYERS: [Case; 10] =
    [STEM, TOWER, DOWN, POINT, SHORTCUT, NARROW_GROUPS, DOWN_GROUPS, WIDE_GROUPS, POINT_GROUPS, DEPTHWISE];

#[test]
fn a_networks_layers_equal_burns_on_both_cpu_backends() {
    for c in LAYERS {
        check(c, &Device::flex().autodiff());
        check(c, &Device::ndarray().autodiff());
        // The other checkpointing strategy, which recomputes cheap operations.
        check(c, &Device::flex().autodiff().gradient_checkpointing());
    }
}

#[test]
fn only_the_gradients_that_are_needed_exist() {
    let device = Device::flex().autodiff();
    for c in [TOWER, DOWN_GROUPS] {
        let (_, all) = run(c, [true; 3], &device, false);
        for i in 0..7u8 {
            let tracked = [i & 1 > 0, i & 2 > 0, i & 4 > 0];
            let (_, grads) = run(c, tracked, &device, false);
            for (t, (got, expected)) in tracked.iter().zip(grads.iter().zip(&all)) {
                assert_eq!(got.as_ref(), expected.as_ref().filter(|_| *t), "{tracked:?}");
            }
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

/// The groups are independent convolutions: the channels of one do not influence another.
#[test]
fn groups_equal_convolutions_of_their_channels() {
    let device = Device::flex();
    for c in [NARROW_GROUPS, DOWN_GROUPS, POINT_GROUPS] {
        let groups = c.options.groups;
        let x = tensor(1, [c.batch, c.in_channels, c.height, c.width], &device);
        let w = tensor(2, [c.out_channels, c.in_channels / groups, c.kernel, c.kernel], &device);
        let each = (0..groups).map(|i| {
            let (inputs, outputs) = (c.in_channels / groups, c.out_channels / groups);
            let (x, w) = (x.clone().narrow(1, i * inputs, inputs), w.clone().narrow(0, i * outputs, outputs));
            conv2d(x, w, None, ConvOptions { groups: 1, ..c.options })
        });
        let expected = Tensor::cat(each.collect(), 1);
        assert_close(&format!("{c:?}"), &[to_vec(conv2d(x.clone(), w.clone(), None, c.options))], &[to_vec(expected)]);
    }
}

#[test]
fn a_view_is_read_by_its_strides() {
    for device in [Device::flex(), Device::ndarray()] {
        let whole = tensor(5, [2, 9, 8, 6], &device);
        let view = whole.clone().swap_dims(2, 3).slice([0..2, 2..8, 0..6, 1..8]);
        let copy = Tensor::<4>::from_data(view.clone().into_data(), &device);
        for groups in [1, 2] {
            let w = tensor(6, [4, 6 / groups, 3, 3], &device);
            let run = |x| conv2d(x, w.clone(), None, options(1, 1, groups));
            assert_eq!(to_vec(run(view.clone())), to_vec(run(copy.clone())));
        }
    }
}

#[test]
fn chained_layers_share_a_checkpointed_relu() {
    let grads = |device: Device, reference: bool| {
        let conv = if reference { conv2d_reference } else { conv2d };
        let x = leaf(7, [1, 4, 9, 9], &device, true);
        let (a, b) = (leaf(8, [5, 4, 3, 3], &device, true), leaf(9, [5, 5, 3, 3], &device, true));
        let y = burn::tensor::activation::relu(conv(x.clone(), a.clone(), None, options(1, 1, 1)));
        let y = conv(y.clone(), b.clone(), None, options(1, 1, 1)) + y;
        let grads = (y * tensor(10, [1, 5, 9, 9], &device)).sum().backward();
        [a.grad(&grads), b.grad(&grads), x.grad(&grads)].map(|g| to_vec(g.expect("a gradient"))).to_vec()
    };
    let reference = grads(Device::flex().autodiff(), true);
    assert_close("keeping", &grads(Device::flex().autodiff(), false), &reference);
    assert_close("recomputing", &grads(Device::flex().autodiff().gradient_checkpointing(), false), &reference);
}

fn shapes(x: [usize; 4], weight: [usize; 4], groups: usize) {
    let device = Device::flex();
    conv2d(tensor(1, x, &device), tensor(2, weight, &device), None, options(1, 1, groups));
}

#[test]
#[should_panic(expected = "the channels differ")]
fn shapes_that_do_not_fit_are_named() {
    shapes([1, 3, 5, 5], [2, 4, 3, 3], 1);
}

#[test]
#[should_panic(expected = "conv2d of [1, 6, 5, 5] by [4, 6, 3, 3], stride 1, padding 1, groups 2: the channels differ")]
fn weights_of_all_channels_do_not_fit_groups() {
    shapes([1, 6, 5, 5], [4, 6, 3, 3], 2);
}

#[test]
#[should_panic(expected = "groups 4: the groups do not divide the input channels")]
fn groups_must_divide_the_input_channels() {
    shapes([1, 6, 5, 5], [4, 1, 3, 3], 4);
}

#[test]
#[should_panic(expected = "groups 3: the groups do not divide the output channels")]
fn groups_must_divide_the_output_channels() {
    shapes([1, 6, 5, 5], [4, 2, 3, 3], 3);
}

#[test]
#[should_panic(expected = "groups 0: there must be at least one group")]
fn no_groups_are_no_convolution() {
    shapes([1, 6, 5, 5], [4, 6, 3, 3], 0);
}
