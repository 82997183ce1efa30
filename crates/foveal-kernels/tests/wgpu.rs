//! The operations on wgpu against flex, on tiny shapes: a software adapter tunes every new shape for seconds.
//!
//! Without an adapter these tests fail; `scripts` sets up a software one.
#![cfg(feature = "wgpu")]

mod common;

use burn::tensor::{DType, Device, DeviceKind, FloatDType, Int, Tensor, TensorData};
use common::*;
use foveal_kernels::*;

/// The default adapter with autodiff, after a trial.
fn wgpu() -> Device {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let trial = std::panic::catch_unwind(|| to_vec(Tensor::<1>::ones([1], &device) + 1.0));
    assert!(trial.is_ok_and(|v| v == [2.0]), "no usable wgpu adapter: install one, or point VK_ICD_FILENAMES at one");
    device.autodiff()
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

#[test]
fn wgpu_agrees_with_the_cpu() {
    let (gpu, cpu) = (wgpu(), Device::flex().autodiff());
    assert_close("class loss", &loss(&gpu), &loss(&cpu));
    assert_close("breakdown", &breakdown(&gpu), &breakdown(&cpu));
    assert_close("affine", &affine_relu(&gpu), &affine_relu(&cpu));
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
