//! The gradient before a convolution's activation, and its sums over pixels, in one pass over memory.
use rayon::prelude::*;

use crate::cpu::CpuTensor;
use crate::cpu::parallel::GRAIN;

/// Number of pixels that are summed in `f32` before the partial sum is added to an `f64`.
const RUN: usize = 64;
/// Number of parts into which the pixels are divided. It is fixed, so that results do not depend on the number of
/// threads.
const PARTS: usize = 32;

/// Result of [`gated`].
pub(super) struct Gated<T> {
    /// The gradient, 0 where the activation let nothing pass.
    pub(super) grad: T,
    /// For each channel, the sum of the gradient over all pixels, if it was asked for.
    pub(super) sums: Option<Vec<f32>>,
}

/// Sets the gradient to 0 where the output `y` of a ReLU is not positive, and sums it over all pixels if `sums` is set.
/// Without `y` there is no ReLU. Works in place if no other tensor shares the gradient's buffer, else on a copy.
///
/// Both tensors are row-major with the channels last.
pub(super) fn gated<T: CpuTensor>(mut grad: T, y: Option<&T>, sums: bool) -> Gated<T> {
    let shape = grad.shape();
    let channels = shape[shape.num_dims() - 1];
    let len = grad.f32s().len();
    if len == 0 || (y.is_none() && !sums) {
        return Gated { grad, sums: sums.then(|| vec![0.0; channels]) };
    }
    let y = y.map(T::f32s);
    if y.is_some() && grad.f32s_mut().is_none() {
        grad = T::from_shape(grad.f32s().to_vec(), shape);
    }
    let pixels = len / channels;
    let step = pixels.div_ceil(PARTS).next_multiple_of(RUN).max(GRAIN.div_ceil(channels)) * channels;
    let parts: Vec<Vec<f64>> = match y {
        Some(y) => {
            let values = grad.f32s_mut().expect("nobody else holds the buffer");
            let parts = values.par_chunks_mut(step).zip(y.par_chunks(step));
            parts.map(|(grad, y)| gate_part(grad, y, channels, sums)).collect()
        }
        None => grad.f32s().par_chunks(step).map(|grad| sum_part(grad, channels)).collect(),
    };
    let total = |c: usize| parts.iter().map(|part| part[c]).sum::<f64>() as f32;
    let sums = sums.then(|| (0..channels).map(total).collect());
    Gated { grad, sums }
}

fn gate_part(grad: &mut [f32], y: &[f32], channels: usize, sums: bool) -> Vec<f64> {
    let mut total = vec![0f64; channels];
    let mut run = vec![0f32; channels];
    for (grad, y) in grad.chunks_mut(RUN * channels).zip(y.chunks(RUN * channels)) {
        grad.iter_mut().zip(y).for_each(|(g, y)| *g = if *y > 0.0 { *g } else { 0.0 });
        if sums {
            add_run(grad, &mut run, &mut total);
        }
    }
    total
}

fn sum_part(grad: &[f32], channels: usize) -> Vec<f64> {
    let mut total = vec![0f64; channels];
    let mut run = vec![0f32; channels];
    grad.chunks(RUN * channels).for_each(|grad| add_run(grad, &mut run, &mut total));
    total
}

/// Adds the sums over the pixels of a run to `total`.
fn add_run(grad: &[f32], run: &mut [f32], total: &mut [f64]) {
    run.fill(0.0);
    for pixel in grad.chunks_exact(run.len()) {
        run.iter_mut().zip(pixel).for_each(|(run, g)| *run += g);
    }
    total.iter_mut().zip(run).for_each(|(total, run)| *total += f64::from(*run));
}
