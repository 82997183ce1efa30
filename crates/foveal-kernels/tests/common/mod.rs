//! Helpers shared by the tests of the operations.
#![allow(dead_code, deprecated)] // each test program uses a part; burn-ndarray is supported here

pub(crate) mod classes;
pub(crate) mod exact;

use std::sync::{Mutex, MutexGuard};

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use exact::{Exact, assert_exact};
use foveal_kernels::set_reference;

/// Tolerance of the fused kernels in `f32`: largest difference divided by the largest reference value.
pub(crate) const TOLERANCE: f32 = 1e-4;

/// Values in -1..1 from a counter-based generator (SplitMix64), so that a failure repeats.
pub(crate) fn values(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let mut z = (seed << 32).wrapping_add(i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// A tensor of the values of [`values`].
pub(crate) fn tensor<const D: usize>(seed: u64, dims: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values(seed, dims.iter().product()), dims), device)
}

/// A tensor of values of [`values`]: a leaf with a gradient, where `tracked`.
pub(crate) fn leaf<const D: usize>(seed: u64, dims: [usize; D], device: &Device, tracked: bool) -> Tensor<D> {
    let t = tensor(seed, dims, device);
    if tracked { t.require_grad() } else { t }
}

pub(crate) fn to_vec<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.into_data().try_to_vec::<f32>().expect("f32 values")
}

/// max |difference| over max |reference|; infinite if a value is not finite or the lengths differ.
pub(crate) fn relative(got: &[f32], reference: &[f32]) -> f32 {
    if got.len() != reference.len() || got.iter().any(|v| !v.is_finite()) {
        return f32::INFINITY;
    }
    let scale = reference.iter().fold(0f32, |m, v| m.max(v.abs()));
    let difference = got.iter().zip(reference).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    if difference == 0.0 { 0.0 } else { difference / scale }
}

/// Panics with `what` if two lists of named results differ by more than the tolerance.
pub(crate) fn assert_close(what: &str, got: &[Vec<f32>], reference: &[Vec<f32>]) {
    assert_eq!(got.len(), reference.len(), "{what}");
    for (i, (g, r)) in got.iter().zip(reference).enumerate() {
        let error = relative(g, r);
        assert!(error <= TOLERANCE, "{what}: result {i} differs by {error:e} of its largest value");
    }
}

/// Runs `f` in pools of 1, 2 and 3 threads and checks that the bits agree.
pub(crate) fn assert_same_on_any_threads(f: impl Fn() -> Vec<Vec<f32>> + Sync) {
    let run = |threads: usize| -> Vec<Vec<u32>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| f().iter().map(|v| v.iter().map(|x| x.to_bits()).collect()).collect())
    };
    let one = run(1);
    assert_eq!(one, run(2), "2 threads");
    assert_eq!(one, run(3), "3 threads");
}

/// Gives a leaf's gradient, if it has one.
pub(crate) type GradOf = Box<dyn Fn(&Gradients) -> Option<Vec<f32>>>;

/// The gradient of a leaf.
pub(crate) fn grad_of<const D: usize>(t: &Tensor<D>) -> GradOf {
    let t = t.clone();
    Box::new(move |grads| t.grad(grads).map(to_vec))
}

/// The output `y` and the gradients of the leaves that have any, of the sum of `y` times fixed values.
pub(crate) fn with_grads<const D: usize>(y: Tensor<D>, leaves: Vec<GradOf>) -> Vec<Vec<f32>> {
    let mut out = vec![to_vec(y.clone())];
    let grads = (y.clone() * tensor(99, y.dims(), &y.device())).sum().backward();
    out.extend(leaves.iter().filter_map(|leaf| leaf(&grads)));
    out
}

/// `set_reference` holds for the whole process, so each test that changes it, or must not be disturbed, takes this
/// lock.
static SWITCH: Mutex<()> = Mutex::new(());

/// While the guard lives, nobody switches to the reference operations.
pub(crate) fn fused_kernels() -> MutexGuard<'static, ()> {
    SWITCH.lock().unwrap_or_else(|e| e.into_inner())
}

/// Checks that `f` gives the same by the fused kernels, on both CPU backends, and by Burn's operations on flex.
pub(crate) fn compare(what: &str, f: impl Fn(&Device) -> Vec<Vec<f32>>) {
    let _guard = fused_kernels();
    set_reference(true);
    let reference = f(&Device::flex().autodiff());
    set_reference(false);
    assert_close(&format!("flex, {what}"), &f(&Device::flex().autodiff()), &reference);
    assert_close(&format!("recomputing, {what}"), &f(&Device::flex().autodiff().gradient_checkpointing()), &reference);
    assert_close(&format!("ndarray, {what}"), &f(&Device::ndarray().autodiff()), &reference);
}

/// Checks that `f` gives the values of `exact` by the fused kernels, on both CPU backends.
pub(crate) fn compare_exact(what: &str, exact: &[Vec<Exact>], f: impl Fn(&Device) -> Vec<Vec<f32>>) {
    let _guard = fused_kernels();
    assert_exact(&format!("flex, {what}"), &f(&Device::flex().autodiff()), exact);
    assert_exact(&format!("recomputing, {what}"), &f(&Device::flex().autodiff().gradient_checkpointing()), exact);
    assert_exact(&format!("ndarray, {what}"), &f(&Device::ndarray().autodiff()), exact);
}
