//! The ReLU, threaded and in place where it can be.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{Tensor, activation};

use crate::affine::masked_scaled;
use crate::cpu::{CpuBackend, CpuTensor};
use crate::parallel::map_planes;
use crate::route::own_kernel;

/// `max(x, 0)` of each element; NaN stays NaN.
///
/// # Shapes
/// `[batch, channels, height, width]`, before and after.
pub fn relu(x: Tensor<4>) -> Tensor<4> {
    if own_kernel(&x) {
        return Tensor::from_dispatch(<Dispatch as ReluOps>::rectify(x.into_dispatch()));
    }
    activation::relu(x)
}

/// `max(x, 0)` that lets NaN through, so that a diverged network shows.
#[inline(always)]
pub(crate) fn rectified(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// The ReLU that the CPU backends compute themselves.
#[backend_extension(NdArray, Flex, Autodiff)]
pub trait ReluOps: Backend {
    /// See [`relu`].
    fn rectify(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl<B: CpuBackend> ReluOps for B {
    fn rectify(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let [.., height, width] = x.sizes::<4>();
        map_planes(x, height * width, |_, values| values.iter_mut().for_each(|v| *v = rectified(*v)))
    }
}

/// The autodiff node; its state is the output.
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
    fn rectify(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, guard) = x.into_parts();
        match Backward::<B, 1>::prepare::<C>(ReluNode, [guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::rectify(x);
                prep.finish(y.clone(), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::rectify(x)),
        }
    }
}
