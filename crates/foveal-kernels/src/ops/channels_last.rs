//! Transposition that makes the channels the last axis.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::cpu::parallel::SharedMut;
use crate::cpu::route::fused_kernel;
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
        swapped(x)
    }
}

/// Swaps the last two axes in memory.
fn swapped<T: CpuTensor>(x: T) -> T {
    let x = x.contiguous();
    let [batch, rows, columns] = x.sizes();
    let (values, matrix) = (x.f32s(), rows * columns);
    let mut out: Vec<f32> = Vec::with_capacity(values.len());
    let to = SharedMut::uninit(&mut out.spare_capacity_mut()[..values.len()]);
    let strips = columns.div_ceil(SIDE);
    (0..batch * strips).into_par_iter().for_each(|task| {
        let (image, first) = (task / strips, task % strips * SIDE);
        let (from, last) = (&values[image * matrix..][..matrix], (first + SIDE).min(columns));
        for row in (0..rows).step_by(SIDE) {
            let block = row..(row + SIDE).min(rows);
            for column in first..last {
                // SAFETY: only this task writes rows `first..last` of this image's result, which lie within the buffer.
                let to = unsafe { to.at(image * matrix + column * rows) };
                for r in block.clone() {
                    // SAFETY: element `r` of that row lies within the buffer.
                    unsafe { to.add(r).write(from[r * columns + column]) };
                }
            }
        }
    });
    // SAFETY: the strips cover every column of every image, and each column was written in all rows.
    unsafe { out.set_len(values.len()) };
    T::from_f32s(out, [batch, columns, rows])
}

#[derive(Debug)]
struct ChannelsLastNode;

impl<B: CpuBackend> Backward<B, 1> for ChannelsLastNode {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, swapped);
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
