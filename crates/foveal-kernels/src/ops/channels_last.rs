//! Change of axes that makes the channels the last one.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::cpu::route::fused_kernel;
use crate::cpu::{CpuBackend, CpuTensor};

/// Makes the channels the last axis, also in memory on the CPU backends. Nothing is copied if they are last in the memory
/// of `x`, and the gradient of `x` has them last there.
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
    /// Moves the channels of `x [batch, channels, pixels]` behind the pixels, see [`channels_last`].
    fn swap_last(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl<B: CpuBackend> ChannelsLastOps for B {
    fn swap_last(x: FloatTensor<Self>) -> FloatTensor<Self> {
        x.into_nhwc()
    }
}

#[derive(Debug)]
struct ChannelsLastNode;

impl<B: CpuBackend> Backward<B, 1> for ChannelsLastNode {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |grad| grad.contiguous().from_nhwc());
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
