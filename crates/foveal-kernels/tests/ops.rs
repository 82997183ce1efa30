//! Affine, group norm, batch norm, pooling and upsampling: the fused kernels against Burn's operations.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

mod common;

use burn::tensor::{DType, Device, Tensor};
use common::*;
use foveal_kernels::*;
use proptest::prelude::*;

fn affine_case(dims: [usize; 4], act: Activation, residual: bool, tracked: u8, device: &Device) -> Vec<Vec<f32>> {
    let bit = |i: u8| tracked >> i & 1 == 1;
    // A computed tensor, so that its buffer may be overwritten in place.
    let x = leaf(1, dims, device, bit(0));
    let (scale, shift) = (leaf(2, [dims[1]], device, bit(1)), leaf(3, [dims[1]], device, bit(2)));
    let rest = residual.then(|| leaf(4, dims, device, bit(3)));
    let y = affine(x.clone() * 2.0, scale.clone(), shift.clone(), rest.clone(), act);
    if !(y.clone().is_require_grad() || tracked & if residual { 15 } else { 7 } != 0) {
        return vec![to_vec(y)];
    }
    let leaves = [Some(grad_of(&x)), rest.as_ref().map(grad_of), Some(grad_of(&scale)), Some(grad_of(&shift))];
    with_grads(y, leaves.into_iter().flatten().collect())
}

#[test]
fn affine_equals_burn_whatever_learns() {
    for act in [Activation::None, Activation::Relu] {
        for residual in [false, true] {
            for tracked in 0..16 {
                compare(&format!("affine {act:?} residual {residual} tracked {tracked:04b}"), |device| {
                    affine_case([2, 5, 7, 6], act, residual, tracked, device)
                });
            }
        }
    }
}

fn group_norm_case(dims: [usize; 4], groups: usize, act: Activation, tracked: u8, device: &Device) -> Vec<Vec<f32>> {
    let bit = |i: u8| tracked >> i & 1 == 1;
    let x = leaf(1, dims, device, bit(0));
    let (w, b) = (leaf(2, [dims[1]], device, bit(1)), leaf(3, [dims[1]], device, bit(2)));
    let y = group_norm(x.clone(), w.clone(), b.clone(), groups, 1e-5, act);
    if tracked & 7 == 0 {
        return vec![to_vec(y)];
    }
    with_grads(y, vec![grad_of(&x), grad_of(&w), grad_of(&b)])
}

#[test]
fn group_norm_equals_burn_whatever_learns() {
    for act in [Activation::None, Activation::Relu] {
        for tracked in 0..8 {
            compare(&format!("group norm {act:?} tracked {tracked:03b}"), |device| {
                group_norm_case([2, 12, 5, 9], 4, act, tracked, device)
            });
        }
    }
}

fn batch_norm_case(dims: [usize; 4], tracked: u8, device: &Device) -> Vec<Vec<f32>> {
    let bit = |i: u8| tracked >> i & 1 == 1;
    let x = leaf(1, dims, device, bit(0));
    let (w, b) = (leaf(2, [dims[1]], device, bit(1)), leaf(3, [dims[1]], device, bit(2)));
    let out = batch_norm_train(x.clone(), w.clone(), b.clone(), 1e-5);
    let statistics = vec![to_vec(out.mean), to_vec(out.var)];
    if tracked == 0 {
        return [statistics, vec![to_vec(out.y)]].concat();
    }
    [statistics, with_grads(out.y, vec![grad_of(&x), grad_of(&w), grad_of(&b)])].concat()
}

#[test]
fn batch_norm_equals_burn_whatever_learns() {
    for tracked in 0..8 {
        compare(&format!("batch norm tracked {tracked:03b}"), |device| batch_norm_case([3, 6, 7, 9], tracked, device));
    }
}

fn relu_case(dims: [usize; 4], device: &Device) -> Vec<Vec<f32>> {
    let x = leaf(1, dims, device, true);
    with_grads(relu(x.clone() * 2.0), vec![grad_of(&x)])
}

fn pool_case(dims: [usize; 4], device: &Device) -> Vec<Vec<f32>> {
    let x = leaf(1, dims, device, true);
    with_grads(max_pool_3x3_s2_p1(x.clone()), vec![grad_of(&x)])
}

fn upsample_case(lateral: [usize; 4], top: [usize; 2], tracked: u8, device: &Device) -> Vec<Vec<f32>> {
    let a = leaf(1, lateral, device, tracked & 1 == 1);
    let b = leaf(2, [lateral[0], lateral[1], top[0], top[1]], device, tracked & 2 == 2);
    with_grads(upsample_add(a.clone(), b.clone()), vec![grad_of(&a), grad_of(&b)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sizes_do_not_matter(batch in 1usize..3, groups in 1usize..4, each in 1usize..5, h in 1usize..12, w in 1usize..40) {
        let dims = [batch, groups * each, h, w];
        // No ReLU after sums: in some case a value is so close to zero that its sign differs.
        compare_exact(&format!("affine {dims:?}"), &exact::affine(dims), |d| {
            affine_case(dims, Activation::None, true, 15, d)
        });
        compare_exact(&format!("pool {dims:?}"), &exact::pool(dims), |d| pool_case(dims, d));
        compare(&format!("relu {dims:?}"), |d| relu_case(dims, d));
        let top = [h.div_ceil(2), w.div_ceil(2)];
        compare_exact(&format!("upsample {dims:?}"), &exact::upsample(dims, top), |d| upsample_case(dims, top, 3, d));
        // Normalising only a few values amplifies rounding errors; networks have no such layers.
        if each * h * w >= 8 {
            compare_exact(&format!("group norm {dims:?}"), &exact::group_norm(dims, groups, 1e-5), |d| {
                group_norm_case(dims, groups, Activation::None, 7, d)
            });
        }
    }
}

/// In these cases a gradient of the scale is the sum of large terms that nearly cancel.
#[test]
fn sums_that_cancel_are_as_exact_as_others() {
    for dims in [[1, 1, 10, 3], [1, 1, 11, 39], [2, 1, 7, 31]] {
        let exact = exact::group_norm(dims, 1, 1e-5);
        compare_exact(&format!("group norm {dims:?}"), &exact, |d| group_norm_case(dims, 1, Activation::None, 7, d));
        let terms = exact[2][0];
        assert!(terms.value.abs() < 0.1 * terms.terms, "{terms:?}");
    }
    // The reference in f64 agrees with Burn's operations.
    let _guard = fused_kernels();
    set_reference(true);
    let device = Device::flex().autodiff();
    let found = group_norm_case([2, 6, 5, 7], 3, Activation::None, 7, &device);
    let affine = affine_case([2, 6, 5, 7], Activation::None, true, 15, &device);
    let (pool, upsample) = (pool_case([2, 3, 5, 7], &device), upsample_case([2, 3, 5, 7], [3, 4], 3, &device));
    set_reference(false);
    exact::assert_exact("group norm", &found, &exact::group_norm([2, 6, 5, 7], 3, 1e-5));
    exact::assert_exact("affine", &affine, &exact::affine([2, 6, 5, 7]));
    exact::assert_exact("pool", &pool, &exact::pool([2, 3, 5, 7]));
    exact::assert_exact("upsample", &upsample, &exact::upsample([2, 3, 5, 7], [3, 4]));
}

#[test]
fn upsampling_follows_torchs_rule_for_any_ratio() {
    let sizes = [
        // whole factors, also different ones for height and width
        (4, 6, 2, 3),
        (10, 12, 5, 4),
        (5, 6, 5, 2),
        (1, 1, 1, 1),
        // odd sizes: half of them, rounded up
        (5, 7, 3, 4),
        (13, 25, 7, 13),
        // any other ratio, also to smaller maps
        (9, 4, 2, 3),
        (7, 13, 3, 5),
        (3, 3, 5, 7),
        (4, 98, 7, 2),
    ];
    for (h, w, th, tw) in sizes {
        for tracked in 1..4 {
            compare(&format!("upsample {th}x{tw} to {h}x{w}"), |d| upsample_case([2, 3, h, w], [th, tw], tracked, d));
        }
    }
    let device = Device::flex();
    let top = Tensor::<4>::from_data([[[[1f32, 2., 3.]]]], &device);
    // floor(i * 3 / 5) = 0 0 1 1 2
    assert_eq!(to_vec(upsample_add(Tensor::zeros([1, 1, 1, 5], &device), top)), [1., 1., 2., 2., 3.]);
}

/// GPUs store maps of 16-bit numbers with parameters in f32. The CPU backends run Burn's operations on them.
#[test]
fn maps_of_16_bits_keep_their_type_and_are_normalised_in_f32() {
    let _guard = fused_kernels();
    let device = Device::flex().autodiff();
    // Their squares add up to more than the largest f16, 65504.
    let x = (tensor::<4>(1, [2, 6, 5, 8], &device) * 60.0 + 200.0).cast(DType::F16).cast(DType::F32);
    let (w, b) = (leaf(2, [6], &device, true), leaf(3, [6], &device, true));
    let top = tensor::<4>(4, [2, 6, 3, 4], &device).cast(DType::F16).cast(DType::F32);
    let all = |dtype: DType| {
        let (x, top) = (x.clone().cast(dtype).detach().require_grad(), top.clone().cast(dtype));
        let batch = batch_norm_train(x.clone(), w.clone(), b.clone(), 1e-5);
        assert_eq!([batch.mean.dtype(), batch.var.dtype()], [DType::F32; 2]);
        let maps = [
            group_norm(x.clone(), w.clone(), b.clone(), 3, 1e-5, Activation::Relu),
            batch.y,
            relu(x.clone()),
            max_pool_3x3_s2_p1(x.clone()),
            upsample_add(x.clone(), top.clone()),
            upsample_add(x.clone(), max_pool_3x3_s2_p1(x.clone()).narrow(2, 0, 1).narrow(3, 0, 2)),
        ];
        let mut out: Vec<_> = maps.iter().map(|map| (map.dtype(), to_vec(map.clone().cast(DType::F32)))).collect();
        let last = channels_last(x.clone().flatten(2, 3));
        out.push((last.dtype(), to_vec(last.cast(DType::F32))));
        let loss = maps.into_iter().map(|map| map.cast(DType::F32).mean()).reduce(|a, b| a + b).expect("maps");
        let grads = loss.backward();
        let dx = x.grad(&grads).expect("a gradient");
        out.push((dx.dtype(), to_vec(dx.cast(DType::F32))));
        for parameter in [&w, &b] {
            let gradient = parameter.grad(&grads).expect("a gradient");
            assert_eq!(gradient.dtype(), DType::F32);
            out.push((dtype, to_vec(gradient)));
        }
        out
    };
    for (i, (half, single)) in all(DType::F16).into_iter().zip(all(DType::F32)).enumerate() {
        assert_eq!((half.0, single.0), (DType::F16, DType::F32), "operation {i}");
        let largest = single.1.iter().fold(0f32, |largest, v| largest.max(v.abs()));
        for (a, b) in half.1.into_iter().zip(single.1) {
            assert!((a - b).abs() <= 2e-3 * largest, "operation {i}: {a} in 16 bits, {b} in 32");
        }
    }
}

/// A map that nobody else holds is transposed in its own memory.
#[test]
fn channels_become_the_last_axis_of_maps_that_are_kept_and_of_others() {
    let _guard = fused_kernels();
    for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
        let x = tensor::<3>(1, [2, 70, 45], &device).detach().require_grad();
        let weights = tensor::<3>(2, [2, 45, 70], &device).detach();
        let of = |last: Tensor<3>| {
            let grads = (last.clone() * weights.clone()).sum().backward();
            [to_vec(last), to_vec(x.grad(&grads).expect("a gradient")), to_vec(x.clone())]
        };
        let expected = of(x.clone().swap_dims(1, 2));
        assert_eq!(of(channels_last(x.clone())), expected);
        assert_eq!(of(channels_last(x.clone() * 1.0)), expected);
    }
}

#[test]
fn equal_values_pass_their_gradient_to_the_first() {
    let device = Device::flex().autodiff();
    let x = Tensor::<4>::ones([1, 1, 4, 4], &device).require_grad();
    let grads = max_pool_3x3_s2_p1(x.clone()).sum().backward();
    // The windows start at -1 and 1; their first pixels within the map are (0,0), (0,1), (1,0), (1,1).
    let expected = [1., 1., 0., 0., 1., 1., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0.];
    assert_eq!(to_vec(x.grad(&grads).expect("a gradient")), expected);
}

#[test]
fn not_a_number_stays_one() {
    let device = Device::flex();
    let x = Tensor::<4>::from_data([[[[f32::NAN, 1.0]]]], &device);
    let one = Tensor::<1>::ones([1], &device);
    assert!(to_vec(affine(x.clone(), one.clone(), one, None, Activation::Relu))[0].is_nan());
    assert!(to_vec(relu(x.clone()))[0].is_nan());
    assert!(to_vec(max_pool_3x3_s2_p1(x))[0].is_nan());
    let x = Tensor::<4>::from_data([[[[1.0, 2.0, f32::NAN, 3.0]]]], &device);
    assert!(to_vec(max_pool_3x3_s2_p1(x))[1].is_nan());
}

#[test]
fn batch_norm_normalises_and_reports_its_statistics() {
    let device = Device::flex().autodiff();
    let x = leaf(1, [3, 2, 4, 5], &device, true);
    let (w, b) = (leaf(2, [2], &device, true), leaf(3, [2], &device, true));
    let out = batch_norm_train(x.clone(), w.clone(), b.clone(), 1e-5);
    // Each channel is a group of its own.
    let swapped = x.clone().swap_dims(0, 1).reshape([1, 2, 12, 5]);
    let expected = group_norm(swapped, w, b, 2, 1e-5, Activation::None).reshape([2, 3, 4, 5]).swap_dims(0, 1);
    assert_close("batch norm", &[to_vec(out.y)], &[to_vec(expected)]);
    let values = to_vec(x.swap_dims(0, 1));
    for (c, (mean, var)) in to_vec(out.mean).into_iter().zip(to_vec(out.var)).enumerate() {
        let v = &values[c * 60..][..60];
        let m = v.iter().sum::<f32>() / 60.0;
        assert!((m - mean).abs() < 1e-5);
        assert!((v.iter().map(|v| (v - m).powi(2)).sum::<f32>() / 60.0 - var).abs() < 1e-5);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let _guard = fused_kernels();
    let device = Device::flex().autodiff();
    let dims = [2, 16, 60, 50];
    assert_same_on_any_threads(|| affine_case(dims, Activation::Relu, true, 15, &device));
    assert_same_on_any_threads(|| group_norm_case(dims, 4, Activation::Relu, 7, &device));
    assert_same_on_any_threads(|| batch_norm_case(dims, 7, &device));
    assert_same_on_any_threads(|| pool_case(dims, &device));
    assert_same_on_any_threads(|| upsample_case(dims, [30, 25], 3, &device));
}
