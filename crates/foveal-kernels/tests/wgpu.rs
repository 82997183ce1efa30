//! The operations on wgpu against flex, on tiny shapes: a software adapter tunes every new shape for seconds.
//!
//! Without an adapter these tests fail; `scripts` sets up a software one.
#![cfg(feature = "wgpu")]

mod common;

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use common::classes::*;
use common::*;
use cubecl::prelude::{BufferArg, CubeCount, CubeDim};
use foveal_kernels::*;

/// The default adapter with autodiff.
fn wgpu() -> Device {
    test_adapter().autodiff()
}

/// Number of units of a workgroup in the test of its memory.
const UNITS: usize = 256;

mod shared {
    use cubecl::prelude::*;

    /// Each unit writes one value of the memory that the units of a workgroup share, and reads that of another unit.
    #[cube(launch_unchecked)]
    pub(super) fn reversed(out: &mut [u32], #[comptime] units: usize) {
        let mut memory = Shared::<[u32]>::new_slice(units);
        let unit = UNIT_POS as usize;
        memory[unit] = UNIT_POS + 1;
        sync_cube();
        out[unit] = memory[units - 1 - unit];
    }
}

/// Reductions and matrix products of Burn use such memory. The published cubecl-spirv 0.11.3 compiles it wrongly for
/// some adapters, see crates/vendor/cubecl-spirv/README.md.
#[test]
fn wgpu_units_share_the_memory_of_their_workgroup() {
    let device = wgpu().without_autodiff();
    let DispatchDevice::Cube(device) = device.as_dispatch() else { panic!("wgpu is a device of CubeCL") };
    let client = device.client();
    let out = client.empty(UNITS * size_of::<u32>());
    // SAFETY: each of the units writes one of the buffer's values.
    unsafe {
        let arg = BufferArg::from_raw_parts(out.clone(), UNITS);
        shared::reversed::launch_unchecked(&client, CubeCount::new_single(), CubeDim::new_1d(UNITS as u32), arg, UNITS);
    }
    let bytes = client.read_one(out).expect("the kernel runs");
    let found: Vec<u32> = bytes.as_chunks().0.iter().copied().map(u32::from_ne_bytes).collect();
    let expected: Vec<u32> = (1..=UNITS as u32).rev().collect();
    assert_eq!(found, expected);
}

fn conv(groups: usize, device: &Device) -> Vec<Vec<f32>> {
    let x = leaf(1, [1, 4, 8, 8], device, true);
    let (w, b) = (leaf(2, [4, 4 / groups, 3, 3], device, true), leaf(3, [4], device, true));
    let y = conv2d(x.clone(), w.clone(), Some(b.clone()), ConvOptions { stride: 1, padding: 1, groups });
    let grads = (y.clone() * tensor(4, [1, 4, 8, 8], device)).sum().backward();
    let grad = |g: Option<Vec<f32>>| g.expect("a gradient");
    let wx = [x.grad(&grads), w.grad(&grads)].map(|g| grad(g.map(to_vec)));
    let [dx, dw] = wx;
    vec![to_vec(y), dx, dw, grad(b.grad(&grads).map(to_vec))]
}

/// A convolution with scale, shift, residual and an activation, with a trained input, weight, shift and residual. Maps
/// have the data type `maps`.
fn conv_epilogue(window: [usize; 3], activation: Activation, maps: DType, device: &Device) -> Vec<Vec<f32>> {
    let [kernel, stride, groups] = window;
    let out = 8 / stride;
    let x = leaf(1, [1, 4, 8, 8], device, true);
    let (w, b) = (leaf(2, [4, 4 / groups, kernel, kernel], device, true), leaf(3, [4], device, true));
    let rest = leaf(5, [1, 4, out, out], device, true);
    let epilogue = Epilogue {
        scale: Some(tensor(6, [4], device)),
        shift: Some(b.clone()),
        residual: Some(rest.clone().cast(maps)),
        activation,
        mask: None,
    };
    let options = ConvOptions { stride, padding: kernel / 2, groups };
    let y = conv2d_fused(x.clone().cast(maps), w.clone(), epilogue, options).cast(FloatDType::F32);
    with_grads(y, vec![grad_of(&x), grad_of(&w), grad_of(&b), grad_of(&rest)])
}

/// Kernel, stride and groups of the convolutions with an epilogue.
const WINDOWS: [[usize; 3]; 4] = [[1, 1, 1], [3, 1, 1], [3, 2, 1], [3, 1, 2]];

fn affine_relu(device: &Device) -> Vec<Vec<f32>> {
    let x = leaf(1, [1, 4, 8, 8], device, true);
    let (scale, shift) = (leaf(2, [4], device, true), leaf(3, [4], device, true));
    let y = affine(x.clone(), scale.clone(), shift.clone(), Some(tensor(5, [1, 4, 8, 8], device)), Activation::Relu);
    let grads = (y.clone() * tensor(4, [1, 4, 8, 8], device)).sum().backward();
    let dx = x.grad(&grads).expect("a gradient");
    let rest = [scale.grad(&grads), shift.grad(&grads)].map(|g| to_vec(g.expect("a gradient")));
    [vec![to_vec(y), to_vec(dx)], rest.to_vec()].concat()
}

/// A group norm and a batch norm of the result of a convolution, which has the channels last in memory.
fn norms(device: &Device) -> Vec<Vec<f32>> {
    let x = leaf(1, [1, 4, 8, 8], device, true);
    let (w, b) = (leaf(2, [4], device, true), leaf(3, [4], device, true));
    let kernel = tensor(4, [4, 4, 3, 3], device);
    let convolved = conv2d(x.clone(), kernel, None, ConvOptions { stride: 1, padding: 1, groups: 1 });
    let grouped = group_norm(convolved.clone(), w.clone(), b.clone(), 2, 1e-5, Activation::Relu);
    let batch = batch_norm_train(convolved, w.clone(), b.clone(), 1e-5);
    let statistics = vec![to_vec(grouped.clone()), to_vec(batch.mean), to_vec(batch.var)];
    [statistics, with_grads(grouped + batch.y, vec![grad_of(&x), grad_of(&w), grad_of(&b)])].concat()
}

/// A map of the given size plus an upsampled map.
fn upsampled([height, width]: [usize; 2], top: [usize; 2], device: &Device) -> Vec<Vec<f32>> {
    let a = leaf(1, [1, 4, height, width], device, true);
    let b = leaf(2, [1, 4, top[0], top[1]], device, true);
    with_grads(upsample_add(a.clone(), b.clone()), vec![grad_of(&a), grad_of(&b)])
}

fn loss(device: &Device) -> Vec<Vec<f32>> {
    let x = (tensor::<2>(6, [8, 4], device) * 6.0).detach().require_grad();
    let classes = TensorData::new(vec![BACKGROUND, 3, IGNORE, 0, BACKGROUND, 1, IGNORE, 2], [8]);
    let classes = Tensor::<1, Int>::from_data(classes, device);
    let p = ClassLossParams { kind: ClassLossKind::Focal, alpha: 0.25, gamma: 2.0 };
    let out = class_loss(x.clone(), classes, p);
    let grads = (out.loss.clone() * 0.5).backward();
    vec![to_vec(out.loss), to_vec(out.sums), to_vec(x.grad(&grads).expect("a gradient"))]
}

/// The sums of the breakdown for the shapes of [`loss`]. Losses close to the edge of a bin may fall on either side.
fn breakdown(device: &Device) -> Vec<Vec<f32>> {
    let x = tensor::<2>(6, [8, 4], device) * 6.0;
    let classes = TensorData::new(vec![BACKGROUND, 3, IGNORE, 0, BACKGROUND, 1, IGNORE, 2], [8]);
    let p = ClassLossParams { kind: ClassLossKind::Focal, alpha: 0.25, gamma: 2.0 };
    let layout = BreakdownLayout { level_anchors: [4, 2, 1, 1, 0] };
    let out = class_loss_with(x, Tensor::<1, Int>::from_data(classes, device), p, &ClassTerms::default(), Some(layout));
    let sums = BreakdownSums::read(&to_vec(out.breakdown.expect("it was asked for")), 4);
    let side = |side: &[PairSums]| side.iter().flat_map(|s| [s.loss, s.gradient, s.score]).map(|v| v as f32).collect();
    let list = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
    let bins = sums.bins.iter().fold([0.0; 2], |[c, l], b| [c + b.count, l + b.loss]);
    vec![
        side(&sums.positive),
        side(&sums.negative),
        list(&sums.positive_by_class),
        list(&sums.negative_by_class),
        list(&bins),
    ]
}

/// Number of rows and classes that several workgroups of the kernels share.
const LARGE: [usize; 2] = [700, 5];

/// The class of each of `rows` anchors: objects, background and ignored anchors.
fn many_ids(rows: usize, classes: usize) -> Vec<i32> {
    let of = |i: usize| match i % 7 {
        0 => (i / 7 % classes) as i32,
        3 => IGNORE,
        _ => BACKGROUND,
    };
    (0..rows).map(of).collect()
}

/// Loss, sums, gradient and breakdown of the values of seed 6. The logits are a transposed view, as those of a map of
/// channels are. The anchors are those of two images.
fn large(
    [rows, classes]: [usize; 2],
    p: ClassLossParams,
    terms: &ClassTerms,
    device: &Device,
) -> (Vec<Vec<f32>>, BreakdownSums) {
    let leaf = (tensor::<2>(6, [classes, rows], device) * 8.0).detach().require_grad();
    let ids = TensorData::new(many_ids(rows, classes), [rows]);
    let image = rows / 2;
    let layout = BreakdownLayout { level_anchors: [image - 60, 0, 40, 19, 1] };
    let ids = Tensor::<1, Int>::from_data(ids, device);
    let out = class_loss_with(leaf.clone().swap_dims(0, 1), ids, p, terms, Some(layout));
    let grads = (out.loss.clone() * 0.5).backward();
    let grad = to_vec(leaf.grad(&grads).expect("a gradient"));
    let breakdown = to_vec(out.breakdown.expect("it was asked for"));
    (vec![to_vec(out.loss), to_vec(out.sums), grad], BreakdownSums::read(&breakdown, classes))
}

/// Compares all values of two breakdowns. Losses close to the edge of a bin may fall on either side.
fn assert_same_breakdown(what: &str, gpu: &BreakdownSums, cpu: &BreakdownSums) {
    let lists = |s: &BreakdownSums| -> Vec<Vec<f32>> {
        let side = |side: &[PairSums], of: fn(&PairSums) -> f64| side.iter().map(|s| of(s) as f32).collect();
        let sides = [&s.positive, &s.negative].into_iter().flat_map(|pairs| {
            let values: [fn(&PairSums) -> f64; 3] = [|s| s.loss, |s| s.gradient, |s| s.score];
            values.map(|of| side(pairs, of))
        });
        let by_class = [&s.positive_by_class, &s.negative_by_class].map(|v| v.iter().map(|v| *v as f32).collect());
        sides.chain(by_class).collect()
    };
    assert_close(what, &lists(gpu), &lists(cpu));
    let total = |s: &BreakdownSums| s.bins.iter().fold([0.0; 2], |[c, l], b| [c + b.count, l + b.loss]);
    let ([gpu_count, gpu_loss], [cpu_count, cpu_loss]) = (total(gpu), total(cpu));
    assert_eq!(gpu_count, cpu_count, "{what}: number of negatives");
    assert!((gpu_loss - cpu_loss).abs() <= 1e-4 * cpu_loss, "{what}: loss of the bins is {gpu_loss}, not {cpu_loss}");
    let moved: f64 = gpu.bins.iter().zip(&cpu.bins).map(|(a, b)| (a.count - b.count).abs()).sum();
    assert!(moved <= 2.0 + 1e-3 * cpu_count, "{what}: {moved} negatives are in other bins");
    assert!(cpu.bins.iter().filter(|bin| bin.count > 0.0).count() > 10, "{what}: too few bins to compare");
}

#[test]
fn wgpu_class_losses_of_all_kinds_agree() {
    let _guard = fused_kernels();
    let (gpu, cpu) = (wgpu(), Device::flex().autodiff());
    let kinds = all_kinds().into_iter().chain([kind(ClassLossKind::FocalNegatives)]);
    let (logits, classes) = sample();
    for p in kinds {
        let list = |r: Run| vec![vec![r.loss], r.sums, r.grad];
        let what = format!("{p:?}");
        assert_close(&what, &list(run(&logits, &classes, p, &gpu, 0.7)), &list(run(&logits, &classes, p, &cpu, 0.7)));
    }
}

#[test]
fn wgpu_losses_of_several_workgroups_and_their_breakdowns_agree() {
    let _guard = fused_kernels();
    let (gpu, cpu) = (wgpu(), Device::flex().autodiff());
    // The second shape has more classes than a workgroup has units.
    for dims @ [_, classes] in [LARGE, [130, 300]] {
        let list = |low: f32, step: f32| (0..classes).map(|c| low + step * (c % 5) as f32).collect::<Vec<f32>>();
        let terms = ClassTerms { alpha: list(0.1, 0.2), gamma: list(0.0, 0.5), weight: list(0.5, 0.3) };
        let weights = ClassTerms { weight: list(0.5, 0.3), ..ClassTerms::default() };
        let cases = [
            (focal(0.25, 2.0), ClassTerms::default()),
            (focal(0.25, 1.5), terms),
            (kind(ClassLossKind::CrossEntropy), weights),
        ];
        for (p, terms) in cases {
            let what = format!("{dims:?} {p:?}");
            let ((found, breakdown), (expected, of_cpu)) = (large(dims, p, &terms, &gpu), large(dims, p, &terms, &cpu));
            assert_close(&what, &found, &expected);
            assert_same_breakdown(&what, &breakdown, &of_cpu);
            let again = large(dims, p, &terms, &gpu);
            assert_eq!(again, (found, breakdown), "{what}: not the same again");
        }
    }
}

/// The reference in Burn's operations is the oracle of the kernels, on the same device.
#[test]
fn wgpu_reference_agrees() {
    let _guard = fused_kernels();
    let gpu = wgpu();
    let kernel = loss(&gpu);
    set_reference(true);
    let reference = loss(&gpu);
    set_reference(false);
    assert_close("class loss", &kernel, &reference);
}

#[test]
fn wgpu_logits_that_are_not_finite_give_a_loss_that_is_not() {
    let _guard = fused_kernels();
    let gpu = wgpu();
    let ids = [BACKGROUND, 0, IGNORE, 1];
    for gamma in [0.0, 0.5, 2.0] {
        for (bad, place) in
            [(f32::NAN, 0), (f32::INFINITY, 1), (f32::NEG_INFINITY, 0), (f32::NAN, 7), (f32::INFINITY, 3)]
        {
            let mut logits = vec![0.5f32; 8];
            logits[place] = bad;
            let found = run(&logits, &ids, focal(0.25, gamma), &gpu, 1.0);
            assert!(!found.loss.is_finite(), "gamma {gamma}, {bad} at {place}: {}", found.loss);
        }
        // An ignored anchor has no part in the loss, whatever its logits are.
        let found = run(&[0.5, 0.5, 0.5, 0.5, f32::NAN, f32::INFINITY, 0.5, 0.5], &ids, focal(0.25, gamma), &gpu, 1.0);
        assert!(found.loss.is_finite() && found.grad.iter().all(|g| g.is_finite()), "{:?}", found.grad);
        assert_eq!(found.grad[4..6], [0.0; 2]);
    }
    let extreme = run(&[1e4, -1e4, 88.0, -88.0, 0.0, 0.0, -0.0, 1e-30], &ids, focal(0.25, 2.0), &gpu, 1.0);
    assert!(extreme.loss.is_finite() && extreme.grad.iter().all(|g| g.is_finite()), "{:?}", extreme.grad);
}

#[test]
fn wgpu_logits_of_16_bits_have_losses_of_32() {
    let _guard = fused_kernels();
    let (gpu, cpu) = (wgpu(), Device::flex().autodiff());
    if !gpu.supports_dtype(DType::F16) {
        eprintln!("warning: the adapter has no 16-bit floats, so the class loss of 16-bit logits was not tested");
        return;
    }
    let of = |device: &Device, half: bool| {
        let x = tensor::<2>(6, [8, 4], device) * 6.0;
        let x = x.cast(FloatDType::F16);
        let x = if half { x } else { x.cast(FloatDType::F32) }.detach().require_grad();
        let ids = Tensor::<1, Int>::from_data([BACKGROUND, 3, IGNORE, 0, BACKGROUND, 1, IGNORE, 2], device);
        let out = class_loss(x.clone(), ids, focal(0.25, 2.0));
        assert_eq!(out.loss.dtype(), DType::F32);
        // Gradients of easy negatives are below the least number of 16 bits without this factor.
        let grads = (out.loss.clone() * 4096.0).backward();
        let grad = x.grad(&grads).expect("a gradient");
        vec![to_vec(out.loss), to_vec(out.sums), to_vec(grad.cast(FloatDType::F32))]
    };
    let (half, single) = (of(&gpu, true), of(&cpu, false));
    assert_close("sums", &half[..2], &single[..2]);
    assert!(relative(&half[2], &single[2]) < 1e-3, "{:?} {:?}", half[2], single[2]);
}

#[test]
fn wgpu_hardest_anchors_are_those_of_the_host() {
    let _guard = fused_kernels();
    let gpu = wgpu();
    // More anchors than a workgroup has units; few different costs, so that there are ties.
    const ANCHORS: usize = 600;
    let costs: Vec<f32> = values(3, 2 * ANCHORS).iter().map(|v| (v.abs() * 20.0).floor()).collect();
    let ids: Vec<i32> = many_ids(2 * ANCHORS, 4);
    for keep in [[0, 1], [57, 200], [301, 599], [600, 5]] {
        let mut expected = ids.clone();
        for (image, count) in keep.into_iter().enumerate() {
            let range = image * ANCHORS..(image + 1) * ANCHORS;
            keep_hardest(&mut expected[range.clone()], &costs[range], count as usize);
        }
        let on_gpu =
            |values: &[i32]| Tensor::<1, Int>::from_data(TensorData::new(values.to_vec(), [values.len()]), &gpu);
        let costs = Tensor::<2>::from_data(TensorData::new(costs.clone(), [2, ANCHORS]), &gpu);
        let kept = keep_hardest_on_device(costs, on_gpu(&ids), on_gpu(&keep));
        let kept = kept.into_data().convert::<i32>().try_to_vec::<i32>().expect("integers");
        assert_eq!(kept, expected, "keep {keep:?}");
    }
}

#[test]
fn wgpu_agrees_with_the_cpu() {
    let _guard = fused_kernels();
    let (gpu, cpu) = (wgpu(), Device::flex().autodiff());
    assert_close("class loss", &loss(&gpu), &loss(&cpu));
    assert_close("breakdown", &breakdown(&gpu), &breakdown(&cpu));
    assert_close("affine", &affine_relu(&gpu), &affine_relu(&cpu));
    assert_close("norms", &norms(&gpu), &norms(&cpu));
    for (size, top) in [([8, 8], [4, 4]), ([7, 5], [4, 3])] {
        let what = format!("upsampling {top:?} to {size:?}");
        assert_close(&what, &upsampled(size, top, &gpu), &upsampled(size, top, &cpu));
    }
    for groups in [1, 2] {
        assert_close(&format!("convolution, groups {groups}"), &conv(groups, &gpu), &conv(groups, &cpu));
    }
    for window in WINDOWS {
        let run = |device| conv_epilogue(window, Activation::Relu, DType::F32, device);
        assert_close(&format!("convolution with epilogue, {window:?}"), &run(&gpu), &run(&cpu));
    }
}

#[test]
fn wgpu_convolutions_of_16_bits_agree_with_32_bits_on_the_cpu() {
    let (gpu, cpu) = (wgpu(), Device::flex().autodiff());
    if !gpu.supports_dtype(DType::F16) {
        eprintln!("SKIPPED: this adapter has no 16-bit numbers");
        return;
    }
    for window in WINDOWS {
        // A ReLU would turn the rounding of a value near zero into a gradient that is missing.
        let run = |maps, device| conv_epilogue(window, Activation::None, maps, device);
        for (i, (half, exact)) in run(DType::F16, &gpu).iter().zip(&run(DType::F32, &cpu)).enumerate() {
            let error = relative(half, exact);
            assert!(error < 1e-2, "{window:?}: result {i} differs by {error:e}");
        }
    }
}
