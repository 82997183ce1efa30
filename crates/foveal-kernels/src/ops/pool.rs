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
use crate::cpu::vectorised::{Kernel, LANES, vectorised};
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
    /// Position of the maximum in the window of each output value: 0 to 8, row by row. The channels are last.
    taps: Vec<u8>,
}

fn forward<T: CpuTensor>(x: T) -> Pooled<T> {
    let [batch, channels, height, width] = x.sizes();
    let x = x.into_nhwc();
    let (out_height, out_width) = (height.div_ceil(2), width.div_ceil(2));
    let (row, out_row) = (width * channels, out_width * channels);
    let values = x.f32s();
    let mut y = vec![0f32; batch * out_height * out_row];
    let mut taps = vec![0u8; y.len()];
    if !y.is_empty() {
        let rows = y.par_chunks_mut(out_row).zip(taps.par_chunks_mut(out_row)).enumerate();
        rows.with_min_len(GRAIN.div_ceil(2 * row)).for_each(|(i, (y, taps))| {
            let (image, to) = (i / out_height, i % out_height);
            let from = (0..3).map(|kh| {
                let from = (2 * to + kh).checked_sub(1).filter(|from| *from < height)?;
                Some(&values[(image * height + from) * row..][..row])
            });
            let mut rows = [None; 3];
            rows.iter_mut().zip(from).for_each(|(row, from)| *row = from);
            vectorised(PoolRow { rows, channels, y, taps });
        });
    }
    Pooled { y: T::from_f32s(y, [batch, out_height, out_width, channels]).from_nhwc(), taps }
}

/// The loop of the forward pass over a row of the result.
struct PoolRow<'a> {
    /// The rows of the input that the windows cover; `None` for rows of the padding.
    rows: [Option<&'a [f32]>; 3],
    channels: usize,
    y: &'a mut [f32],
    taps: &'a mut [u8],
}

impl Kernel for PoolRow<'_> {
    #[inline(always)]
    fn run(self) {
        let (channels, whole) = (self.channels, self.channels - self.channels % LANES);
        let outputs = self.y.chunks_exact_mut(channels).zip(self.taps.chunks_exact_mut(channels));
        for (column, (y, taps)) in outputs.enumerate() {
            for first in (0..whole).step_by(LANES) {
                pool::<LANES>(self.rows, channels, column, first, y, taps);
            }
            for first in whole..channels {
                pool::<1>(self.rows, channels, column, first, y, taps);
            }
        }
    }
}

/// Computes `W` channels, from channel `first` on, of the output pixel of a column.
#[inline(always)]
fn pool<const W: usize>(
    rows: [Option<&[f32]>; 3],
    channels: usize,
    column: usize,
    first: usize,
    y: &mut [f32],
    taps: &mut [u8],
) {
    let (mut best, mut best_tap) = ([f32::NEG_INFINITY; W], [0u32; W]);
    for (kh, row) in rows.iter().enumerate() {
        let Some(row) = row else { continue };
        for kw in 0..3 {
            let Some(start) = (2 * column + kw).checked_sub(1).map(|from| from * channels + first) else { continue };
            let Some(values) = row.get(start..start + W) else { continue };
            for lane in 0..W {
                (best[lane], best_tap[lane]) =
                    offer((best[lane], best_tap[lane]), values[lane], (3 * kh + kw) as u32);
            }
        }
    }
    y[first..][..W].copy_from_slice(&best);
    for (to, tap) in taps[first..][..W].iter_mut().zip(best_tap) {
        *to = tap as u8;
    }
}

/// The larger of the best value so far and another value, each with its position in the window. Of equal values the
/// first is kept; NaN wins over all numbers, as in torch. There are no branches, so that the speed does not depend on
/// the data.
#[inline(always)]
fn offer((best, tap): (f32, u32), value: f32, at: u32) -> (f32, u32) {
    // A NaN that won is kept: every comparison with it is false. The last of several NaN wins.
    let wins = (value > best) | value.is_nan();
    (if wins { value } else { best }, if wins { at } else { tap })
}

/// Gradient of the input: each of its pixels adds up the gradients of the one to four windows that cover it, where it is
/// their maximum.
fn backward<T: CpuTensor>(grad: T, taps: &[u8], [batch, channels, height, width]: [usize; 4]) -> T {
    let grad = grad.into_nhwc();
    let (out_height, out_width) = (height.div_ceil(2), width.div_ceil(2));
    let (row, out_row) = (width * channels, out_width * channels);
    let g = grad.f32s();
    let mut dx = vec![0f32; batch * height * row];
    if !dx.is_empty() {
        dx.par_chunks_mut(row).with_min_len(GRAIN.div_ceil(row)).enumerate().for_each(|(i, dx)| {
            let (image, from) = (i / height, i % height);
            let windows = covering(from, out_height).map(|window| {
                let (to, kh) = window?;
                let at = (image * out_height + to) * out_row;
                Some(WindowRow { grad: &g[at..][..out_row], taps: &taps[at..][..out_row], first_tap: 3 * kh })
            });
            vectorised(UnpoolRow { windows, channels, out_width, dx });
        });
    }
    T::from_f32s(dx, [batch, height, width, channels]).from_nhwc()
}

/// The windows that cover row or column `at` of the input: the index of each in the result, of `len`, and the place of
/// the row or column in the window, 0 to 2.
#[inline(always)]
fn covering(at: usize, len: usize) -> [Option<(usize, u8)>; 2] {
    if at.is_multiple_of(2) {
        return [Some((at / 2, 1)), None];
    }
    let next = at / 2 + 1;
    [Some((at / 2, 2)), (next < len).then_some((next, 0))]
}

/// A row of windows that covers a row of the input.
#[derive(Clone, Copy)]
struct WindowRow<'a> {
    grad: &'a [f32],
    taps: &'a [u8],
    /// The position in the windows at which the row of the input begins.
    first_tap: u8,
}

/// The loop of the backward pass over a row of the gradient of the input.
struct UnpoolRow<'a> {
    windows: [Option<WindowRow<'a>>; 2],
    channels: usize,
    out_width: usize,
    dx: &'a mut [f32],
}

impl Kernel for UnpoolRow<'_> {
    #[inline(always)]
    fn run(self) {
        let (channels, whole) = (self.channels, self.channels - self.channels % LANES);
        for (column, dx) in self.dx.chunks_exact_mut(channels).enumerate() {
            let columns = covering(column, self.out_width);
            for first in (0..whole).step_by(LANES) {
                unpool::<LANES>(self.windows, columns, channels, first, dx);
            }
            for first in whole..channels {
                unpool::<1>(self.windows, columns, channels, first, dx);
            }
        }
    }
}

/// Computes `W` channels, from channel `first` on, of a pixel of the gradient of the input.
#[inline(always)]
fn unpool<const W: usize>(
    windows: [Option<WindowRow>; 2],
    columns: [Option<(usize, u8)>; 2],
    channels: usize,
    first: usize,
    dx: &mut [f32],
) {
    let mut sum = [0f32; W];
    for window in windows.into_iter().flatten() {
        for (column, kw) in columns.into_iter().flatten() {
            let (at, place) = (column * channels + first, window.first_tap + kw);
            let (grad, taps) = (&window.grad[at..][..W], &window.taps[at..][..W]);
            for lane in 0..W {
                sum[lane] += if taps[lane] == place { grad[lane] } else { 0.0 };
            }
        }
    }
    dx[first..][..W].copy_from_slice(&sum);
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
