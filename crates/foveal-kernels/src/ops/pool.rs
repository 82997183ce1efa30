//! The max pooling of a ResNet's stem: 3x3 windows, stride 2, padding 1.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use burn::tensor::ops::MaxPoolOptions;
use rayon::prelude::*;

use crate::cpu::parallel::GRAIN;
use crate::cpu::route::fused_kernel;
use crate::cpu::{CpuBackend, CpuTensor};

/// Max pooling over 3x3 windows with stride 2 and padding 1 (He et al., arXiv 1512.03385, table 1). The padding counts
/// as minus infinity. The gradient of an output goes to the first maximum of its window.
///
/// # Shapes
/// `x [batch, channels, height, width]`; the result is `[batch, channels, (height + 1) / 2, (width + 1) / 2]`, rounded
/// down.
pub fn max_pool_3x3_s2_p1(x: Tensor<4>) -> Tensor<4> {
    if fused_kernel(&x) {
        return Tensor::from_dispatch(<Dispatch as PoolOps>::max_pool(x.into_dispatch()));
    }
    let options = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
    burn::tensor::module::max_pool2d(x, options)
}

/// Extension of Burn's backends by [`max_pool_3x3_s2_p1`], implemented by the CPU backends.
#[backend_extension(NdArray, Flex, Autodiff)]
pub(crate) trait PoolOps: Backend {
    /// Computes the maximum over 3x3 windows, see [`max_pool_3x3_s2_p1`].
    fn max_pool(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl<B: CpuBackend> PoolOps for B {
    fn max_pool(x: FloatTensor<Self>) -> FloatTensor<Self> {
        forward(x).y
    }
}

/// Result of the forward pass.
struct Pooled<T> {
    y: T,
    /// Position of the maximum in the window of each output value: 0 to 8, row by row.
    taps: Vec<u8>,
}

fn forward<T: CpuTensor>(x: T) -> Pooled<T> {
    let [batch, channels, height, width] = x.sizes();
    let x = x.into_nhwc();
    let (out_height, out_width) = (height.div_ceil(2), width.div_ceil(2));
    let line = width * channels;
    let values = x.f32s();
    let mut y = vec![f32::NEG_INFINITY; batch * channels * out_height * out_width];
    let mut taps = vec![0u8; y.len()];
    if !y.is_empty() {
        let out_line = out_width * channels;
        y.par_chunks_mut(out_line)
            .zip(taps.par_chunks_mut(out_line))
            .with_min_len(GRAIN.div_ceil(9 * out_line))
            .enumerate()
            .for_each(|(i, (y, taps))| {
                let (image, row) = (i / out_height, i % out_height);
                for kh in 0..3 {
                    let Some(from) = (2 * row + kh).checked_sub(1).filter(|&r| r < height) else { continue };
                    let x = &values[(image * height + from) * line..][..line];
                    pool_line(x, channels, 3 * kh as u8, y, taps);
                }
            });
    }
    Pooled { y: T::from_f32s(y, [batch, out_height, out_width, channels]).from_nhwc(), taps }
}

/// Offers the values of an input row to the windows of an output row. The row's first value in a window has the position
/// `first`.
fn pool_line(x: &[f32], channels: usize, first: u8, y: &mut [f32], taps: &mut [u8]) {
    for (column, (y, taps)) in y.chunks_exact_mut(channels).zip(taps.chunks_exact_mut(channels)).enumerate() {
        for kw in 0..3 {
            let Some(from) = (2 * column + kw).checked_sub(1).and_then(|c| x.get(c * channels..(c + 1) * channels))
            else {
                continue;
            };
            for ((y, tap), x) in y.iter_mut().zip(taps.iter_mut()).zip(from) {
                (*y, *tap) = offer((*y, *tap), *x, first + kw as u8);
            }
        }
    }
}

/// The larger of the best value so far and another value, each with its position in the window. Of equal values the
/// first is kept; NaN wins over all numbers, as in torch. There are no branches, so that the speed does not depend on
/// the data.
#[inline(always)]
fn offer((best, tap): (f32, u8), value: f32, at: u8) -> (f32, u8) {
    // A NaN that won is kept, since every comparison with it is false.
    let wins = (value > best) | value.is_nan();
    (if wins { value } else { best }, if wins { at } else { tap })
}

fn backward<T: CpuTensor>(grad: T, taps: &[u8], [batch, channels, height, width]: [usize; 4]) -> T {
    let grad = grad.into_nhwc();
    let (out_height, out_width) = (height.div_ceil(2), width.div_ceil(2));
    let g = grad.f32s();
    let line = width * channels;
    let mut dx = vec![0.0; batch * height * line];
    if !dx.is_empty() {
        dx.par_chunks_mut(line).with_min_len(GRAIN.div_ceil(3 * line)).enumerate().for_each(|(i, dx)| {
            let (image, row) = (i / height, i % height);
            // The windows of at most two output rows contain this row, each in one kernel row.
            for kh in 0..3 {
                let Some(out) = (row + 1).checked_sub(kh).filter(|r| r % 2 == 0).map(|r| r / 2) else { continue };
                if out >= out_height {
                    continue;
                }
                let at = (image * out_height + out) * out_width * channels;
                let out_line = at..at + out_width * channels;
                let (g, taps) = (&g[out_line.clone()], &taps[out_line]);
                for (column, (g, taps)) in g.chunks_exact(channels).zip(taps.chunks_exact(channels)).enumerate() {
                    for kw in 0..3 {
                        let tap = (3 * kh + kw) as u8;
                        let to =
                            (2 * column + kw).checked_sub(1).and_then(|c| dx.get_mut(c * channels..(c + 1) * channels));
                        let Some(to) = to else { continue };
                        for (to, (g, at)) in to.iter_mut().zip(g.iter().zip(taps)) {
                            *to += if *at == tap { *g } else { 0.0 };
                        }
                    }
                }
            }
        });
    }
    T::from_f32s(dx, [batch, height, width, channels]).from_nhwc()
}

#[derive(Debug)]
struct PoolNode;

#[derive(Clone, Debug)]
struct Saved {
    taps: Vec<u8>,
    dims: [usize; 4],
}

impl<B: CpuBackend> Backward<B, 1> for PoolNode {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, backward(grad, &ops.state.taps, ops.state.dims));
        }
    }
}

impl<B: CpuBackend, C: CheckpointStrategy> PoolOps for Autodiff<B, C> {
    fn max_pool(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, guard) = x.into_parts();
        match Backward::<B, 1>::prepare::<C>(PoolNode, [guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let dims = x.sizes();
                let Pooled { y, taps } = forward(x);
                prep.finish(Saved { taps, dims }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::max_pool(x)),
        }
    }
}
