//! Transposition that makes the channels the last axis.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{Shape, Tensor};
use rayon::prelude::*;

use crate::cpu::parallel::{GRAIN, SharedMut};
use crate::cpu::route::fused_kernel;
use crate::cpu::scratch::Scratch;
use crate::cpu::{CpuBackend, CpuTensor};

/// Side of the squares that are transposed at a time: two of them fit into the first-level cache.
const SIDE: usize = 32;

/// Makes the channels the last axis, also in memory on the CPU backends.
///
/// # Shapes
/// `x [batch, channels, pixels]`; the result is `[batch, pixels, channels]`.
pub fn channels_last(x: Tensor<3>) -> Tensor<3> {
    if fused_kernel(&x) {
        return Tensor::from_dispatch(<Dispatch as ChannelsLastOps>::swap_last(x.into_dispatch()));
    }
    x.swap_dims(1, 2)
}

/// Extension of Burn's backends by [`channels_last`], implemented by the CPU backends.
#[backend_extension(NdArray, Flex, Autodiff)]
pub(crate) trait ChannelsLastOps: Backend {
    /// Swaps the last two axes of `x [batch, rows, columns]`, see [`channels_last`].
    fn swap_last(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl<B: CpuBackend> ChannelsLastOps for B {
    fn swap_last(x: FloatTensor<Self>) -> FloatTensor<Self> {
        swapped::<B>(x)
    }
}

/// Swaps the last two axes in memory. If no other tensor shares the buffer, each image is copied aside and written back
/// transposed; else the result is a new buffer.
fn swapped<B: CpuBackend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let mut x = x.contiguous();
    let [batch, rows, columns] = x.sizes();
    let matrix = rows * columns;
    if let Some(values) = x.f32s_mut() {
        let mut image = Scratch::of(matrix);
        for values in values.chunks_exact_mut(matrix.max(1)) {
            image.par_chunks_mut(GRAIN).zip(values.par_chunks(GRAIN)).for_each(|(to, from)| {
                to[..from.len()].copy_from_slice(from);
            });
            swap(&image[..matrix], rows, SharedMut::new(values));
        }
        return B::float_reshape(x, Shape::from([batch, columns, rows]));
    }
    let values = x.f32s();
    let mut out: Vec<f32> = Vec::with_capacity(values.len());
    let to = &mut out.spare_capacity_mut()[..values.len()];
    for (from, to) in values.chunks_exact(matrix.max(1)).zip(to.chunks_exact_mut(matrix.max(1))) {
        swap(from, rows, SharedMut::uninit(to));
    }
    // SAFETY: every element of every image was written.
    unsafe { out.set_len(values.len()) };
    CpuTensor::from_f32s(out, [batch, columns, rows])
}

/// Writes the transpose of a matrix of `rows` rows to `to`, which has as many elements.
fn swap(from: &[f32], rows: usize, to: SharedMut<'_>) {
    let columns = from.len() / rows.max(1);
    let strips = columns.div_ceil(SIDE);
    (0..strips).into_par_iter().for_each(|strip| {
        let (first, last) = (strip * SIDE, (strip * SIDE + SIDE).min(columns));
        for row in (0..rows).step_by(SIDE) {
            let block = row..(row + SIDE).min(rows);
            for column in first..last {
                // SAFETY: only this task writes rows `first..last` of the result, which lie within the buffer.
                let to = unsafe { to.at(column * rows) };
                for r in block.clone() {
                    // SAFETY: element `r` of that row lies within the buffer.
                    unsafe { to.add(r).write(from[r * columns + column]) };
                }
            }
        }
    });
}

#[derive(Debug)]
struct ChannelsLastNode;

impl<B: CpuBackend> Backward<B, 1> for ChannelsLastNode {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, swapped::<B>);
    }
}

impl<B: CpuBackend, C: CheckpointStrategy> ChannelsLastOps for Autodiff<B, C> {
    fn swap_last(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, guard) = x.into_parts();
        match Backward::<B, 1>::prepare::<C>(ChannelsLastNode, [guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((), B::swap_last(x)),
            OpsKind::UnTracked(prep) => prep.finish(B::swap_last(x)),
        }
    }
}
