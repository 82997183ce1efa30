//! The operations on wgpu against flex, on tiny shapes: a software adapter tunes every new shape for seconds.
//!
//! Without an adapter these tests fail; `scripts` sets up a software one.
#![cfg(feature = "wgpu")]

mod common;

use burn::tensor::{Device, DeviceKind, Int, Tensor, TensorData};
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

#[test]
fn wgpu_agrees_with_the_cpu() {
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
}
