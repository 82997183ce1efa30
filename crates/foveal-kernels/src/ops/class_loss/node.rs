//! The class loss as an operation of Burn's backends, with its autodiff node.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, TensorMetadata, backend_extension};
use burn::tensor::{DType, IntDType, Shape};

use super::Plan;
use super::kernel::{pass, scaled};
use super::reference::composed;
use crate::cpu::CpuBackend;

/// Extension of Burn's backends by the class loss. The default methods use Burn's operations; the CPU backends use the
/// fused kernel.
#[backend_extension(NdArray, Flex, Cube: cfg(feature = "wgpu"), Autodiff)]
pub(super) trait ClassLossOps: Backend {
    /// Computes the loss `[1]` and the sums `[2]`, to which the breakdown is appended if the plan has a layout.
    fn class_loss(
        logits: FloatTensor<Self>,
        classes: IntTensor<Self>,
        plan: Plan,
        reference: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let _ = reference;
        let all = composed::<Self>(logits, classes, &plan);
        (all.loss, all.sums)
    }

    /// Computes the loss `[1]`, the sums `[2]`, to which the breakdown is appended if the plan has a layout, and the
    /// gradient with respect to the logits, `[anchors, classes]`.
    fn class_loss_grad(
        logits: FloatTensor<Self>,
        classes: IntTensor<Self>,
        plan: Plan,
        reference: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let _ = reference;
        let all = composed::<Self>(logits, classes, &plan);
        (all.loss, all.sums, all.grad)
    }

    /// Multiplies the gradient with respect to the logits by the gradient of the loss, `by [1]`.
    fn class_loss_scaled(grad: FloatTensor<Self>, by: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_mul(grad, Self::float_reshape(by, Shape::from([1, 1])))
    }
}

#[cfg(feature = "wgpu")]
impl ClassLossOps for burn::backend::Cube {}

impl<B: CpuBackend> ClassLossOps for B {
    fn class_loss(
        logits: FloatTensor<Self>,
        classes: IntTensor<Self>,
        plan: Plan,
        reference: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if reference || logits.dtype() != DType::F32 {
            let all = composed::<Self>(logits, classes, &plan);
            return (all.loss, all.sums);
        }
        let all = pass(logits, Self::int_cast(classes, IntDType::I32), &plan, false);
        (all.loss, all.sums)
    }

    fn class_loss_grad(
        logits: FloatTensor<Self>,
        classes: IntTensor<Self>,
        plan: Plan,
        reference: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !reference && logits.dtype() == DType::F32 {
            // The integers of ndarray may be i64.
            let all = pass(logits, Self::int_cast(classes, IntDType::I32), &plan, true);
            if let Some(grad) = all.grad {
                return (all.loss, all.sums, grad);
            }
            unreachable!("the gradient was requested");
        }
        let all = composed::<Self>(logits, classes, &plan);
        (all.loss, all.sums, all.grad)
    }

    fn class_loss_scaled(grad: FloatTensor<Self>, by: FloatTensor<Self>) -> FloatTensor<Self> {
        if grad.dtype() != DType::F32 {
            return Self::float_mul(grad, Self::float_reshape(by, Shape::from([1, 1])));
        }
        scaled(grad, by)
    }
}

/// The autodiff node. Its state is the gradient with respect to the logits.
#[derive(Debug)]
struct ClassLossNode;

impl<B: Backend + ClassLossOps> Backward<B, 1> for ClassLossNode {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let saved = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |by| B::class_loss_scaled(saved, by));
    }
}

impl<B: Backend + ClassLossOps, C: CheckpointStrategy> ClassLossOps for Autodiff<B, C> {
    fn class_loss(
        logits: FloatTensor<Self>,
        classes: IntTensor<Self>,
        plan: Plan,
        reference: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (logits, guard) = logits.into_parts();
        match Backward::<B, 1>::prepare::<C>(ClassLossNode, [guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (loss, sums, grad) = B::class_loss_grad(logits, classes, plan, reference);
                (prep.finish(grad, loss), Self::from_inner(sums))
            }
            OpsKind::UnTracked(prep) => {
                let (loss, sums) = B::class_loss(logits, classes, plan, reference);
                (prep.finish(loss), Self::from_inner(sums))
            }
        }
    }
}
