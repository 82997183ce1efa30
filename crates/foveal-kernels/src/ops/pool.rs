//! The max pooling of a ResNet's stem: 3x3 windows, stride 2, padding 1.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use burn::tensor::ops::MaxPoolOptions;
use rayon::prelude::*;

use crate::cpu::parallel::{GRAIN, map_planes};
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
    let x = x.contiguous();
    let [batch, channels, height, width] = x.sizes();
    let (out_height, out_width) = (height.div_ceil(2), width.div_ceil(2));
    let (plane, out_plane) = (height * width, out_height * out_width);
    let values = x.f32s();
    let mut y = vec![f32::NEG_INFINITY; batch * channels * out_plane];
    let mut taps = vec![0u8; y.len()];
    if !y.is_empty() {
        y.par_chunks_mut(out_plane)
            .zip(taps.par_chunks_mut(out_plane))
            .with_min_len(GRAIN.div_ceil(plane))
            .enumerate()
            .for_each(|(i, (y, taps))| pool_plane(&values[i * plane..][..plane], width, y, taps, out_width));
    }
    Pooled { y: T::from_f32s(y, [batch, channels, out_height, out_width]), taps }
}

fn pool_plane(x: &[f32], width: usize, y: &mut [f32], taps: &mut [u8], out_width: usize) {
    let height = x.len() / width;
    // The columns whose windows lie completely within the map.
    let inner = 1..(width / 2).max(1);
    for (row, (y, taps)) in y.chunks_exact_mut(out_width).zip(taps.chunks_exact_mut(out_width)).enumerate() {
        for kh in 0..3 {
            let Some(from) = (2 * row + kh).checked_sub(1).filter(|&r| r < height) else { continue };
            let x = &x[from * width..][..width];
            let first = 3 * kh as u8;
            let (y_inner, taps_inner) = (&mut y[inner.clone()], &mut taps[inner.clone()]);
            for ((y, tap), x) in y_inner.iter_mut().zip(taps_inner).zip(x[1..].windows(3).step_by(2)) {
                let best = offer(offer(offer((*y, *tap), x[0], first), x[1], first + 1), x[2], first + 2);
                (*y, *tap) = best;
            }
            for column in (0..out_width).filter(|c| !inner.contains(c)) {
                for kw in 0..3 {
                    let Some(value) = (2 * column + kw).checked_sub(1).and_then(|c| x.get(c)) else { continue };
                    (y[column], taps[column]) = offer((y[column], taps[column]), *value, first + kw as u8);
                }
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
    let grad = grad.contiguous();
    let (plane, out_width) = (height * width, width.div_ceil(2));
    let out_plane = height.div_ceil(2) * out_width;
    let g = grad.f32s();
    let dx = T::from_f32s(vec![0.0; batch * channels * plane], [batch, channels, height, width]);
    map_planes(dx, plane, |i, dx| {
        let (g, taps) = (&g[i * out_plane..][..out_plane], &taps[i * out_plane..][..out_plane]);
        for (row, (g, taps)) in g.chunks_exact(out_width).zip(taps.chunks_exact(out_width)).enumerate() {
            for (column, (g, tap)) in g.iter().zip(taps).enumerate() {
                let (kh, kw) = (usize::from(tap / 3), usize::from(tap % 3));
                // A window whose values are all -inf keeps position 0, which may lie in the padding.
                if let (Some(r), Some(c)) = ((2 * row + kh).checked_sub(1), (2 * column + kw).checked_sub(1)) {
                    dx[r * width + c] += g;
                }
            }
        }
    })
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
