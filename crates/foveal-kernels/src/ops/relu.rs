//! The ReLU, multi-threaded and in place if possible.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{Tensor, activation};

use crate::cpu::CpuBackend;
use crate::cpu::pixels::map_values;
use crate::cpu::route::fused_kernel;
use crate::ops::elementwise::{self, masked_scaled};

/// Computes the ReLU `max(x, 0)` of each element; NaN stays NaN.
///
/// # Shapes
/// `x` and the result `[batch, channels, height, width]`.
pub fn relu(x: Tensor<4>) -> Tensor<4> {
    if fused_kernel(&x) {
        return Tensor::from_dispatch(<Dispatch as ReluOps>::relu_map(x.into_dispatch()));
    }
    activation::relu(x)
}

/// Extension of Burn's backends by [`relu`], implemented by the CPU backends.
#[backend_extension(NdArray, Flex, Autodiff)]
pub(crate) trait ReluOps: Backend {
    /// Computes the ReLU of each element, see [`relu`]. The name differs from that of the method in Burn's backends.
    fn relu_map(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl<B: CpuBackend> ReluOps for B {
    fn relu_map(x: FloatTensor<Self>) -> FloatTensor<Self> {
        map_values(x, [], |v, []| elementwise::relu(v))
    }
}

/// The autodiff node. Its state is the output.
#[derive(Debug)]
struct ReluNode;

impl<B: CpuBackend> Backward<B, 1> for ReluNode {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let y = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| masked_scaled(grad, Some(&y), None));
    }
}

impl<B: CpuBackend, C: CheckpointStrategy> ReluOps for Autodiff<B, C> {
    fn relu_map(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, guard) = x.into_parts();
        match Backward::<B, 1>::prepare::<C>(ReluNode, [guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::relu_map(x);
                prep.finish(y.clone(), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::relu_map(x)),
        }
    }
}
