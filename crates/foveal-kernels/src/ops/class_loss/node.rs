//! The class loss as an operation of Burn's backends, with its autodiff node.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, TensorMetadata, backend_extension};
use burn::tensor::{DType, IntDType};

use super::Plan;
use super::kernel::{pass, scaled};
use super::reference::{composed, times_scalar};
use crate::cpu::CpuBackend;

/// Extension of Burn's backends by the class loss. The default methods use Burn's operations. The CPU backends and the
/// GPU backend have kernels of their own.
#[backend_extension(NdArray, Flex, Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"), Autodiff)]
pub(super) trait ClassLossOps: Backend {
    /// Computes the loss `[1]` and the sums `[2]`, to which the breakdown is appended if the plan has a layout.
    #[fusion(meta = loss_spec)]
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

    /// Computes the loss and the sums like [`class_loss`](Self::class_loss), and what
    /// [`class_loss_backward`](Self::class_loss_backward) needs, `[anchors, classes]`: the logits themselves, or their
    /// gradient where the pass over the logits has computed it.
    #[fusion(default)]
    fn class_loss_saving(
        logits: FloatTensor<Self>,
        classes: IntTensor<Self>,
        plan: Plan,
        reference: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (loss, sums) = Self::class_loss(logits.clone(), classes, plan, reference);
        (loss, sums, logits)
    }

    /// Computes the gradient with respect to the logits, `[anchors, classes]`, times the gradient of the loss,
    /// `by [1]`. `saved` is what [`class_loss_saving`](Self::class_loss_saving) returned.
    #[fusion(meta = gradient_spec)]
    fn class_loss_backward(
        saved: FloatTensor<Self>,
        classes: IntTensor<Self>,
        by: FloatTensor<Self>,
        plan: Plan,
        reference: bool,
    ) -> FloatTensor<Self> {
        let _ = reference;
        times_scalar::<Self>(composed::<Self>(saved, classes, &plan).grad, by)
    }
}

#[cfg(feature = "wgpu")]
type TensorSpec = burn::backend::fusion::custom::TensorSpec;

/// The shapes and data types of the loss and the sums.
#[cfg(feature = "wgpu")]
fn loss_spec(logits: &TensorSpec, _classes: &TensorSpec, plan: &Plan, _reference: &bool) -> (TensorSpec, TensorSpec) {
    let [_, classes] = logits.shape.dims();
    let dtype = crate::ops::half::computed_in(logits.dtype);
    let values = plan.breakdown.map_or(0, |_| super::BreakdownLayout::values(classes));
    (TensorSpec::new([1].into(), dtype), TensorSpec::new([2 + values].into(), dtype))
}

/// The shape and data type of the gradient: those of the logits.
#[cfg(feature = "wgpu")]
fn gradient_spec(
    logits: &TensorSpec,
    _classes: &TensorSpec,
    _by: &TensorSpec,
    _plan: &Plan,
    _reference: &bool,
) -> TensorSpec {
    logits.clone()
}

#[cfg(feature = "wgpu")]
impl ClassLossOps for burn::backend::wgpu::CubeBackend {
    fn class_loss(
        logits: FloatTensor<Self>,
        classes: IntTensor<Self>,
        plan: Plan,
        reference: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !reference && super::gpu::has_kernel(logits.dtype) {
            return super::gpu::class_loss(logits, classes, &plan);
        }
        let all = composed::<Self>(logits, classes, &plan);
        (all.loss, all.sums)
    }

    fn class_loss_backward(
        saved: FloatTensor<Self>,
        classes: IntTensor<Self>,
        by: FloatTensor<Self>,
        plan: Plan,
        reference: bool,
    ) -> FloatTensor<Self> {
        if !reference && super::gpu::has_kernel(saved.dtype) {
            return super::gpu::gradient(saved, classes, by, &plan);
        }
        times_scalar::<Self>(composed::<Self>(saved, classes, &plan).grad, by)
    }
}

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
        let all = pass(logits, Self::int_cast(classes, IntDType::I32), 1, &plan, false);
        (all.loss, all.sums)
    }

    fn class_loss_saving(
        logits: FloatTensor<Self>,
        classes: IntTensor<Self>,
        plan: Plan,
        reference: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !reference && logits.dtype() == DType::F32 {
            // The integers of ndarray may be i64.
            let all = pass(logits, Self::int_cast(classes, IntDType::I32), 1, &plan, true);
            if let Some(grad) = all.grad {
                return (all.loss, all.sums, grad);
            }
            unreachable!("the gradient was requested");
        }
        let all = composed::<Self>(logits, classes, &plan);
        (all.loss, all.sums, all.grad)
    }

    fn class_loss_backward(
        saved: FloatTensor<Self>,
        _classes: IntTensor<Self>,
        by: FloatTensor<Self>,
        _plan: Plan,
        _reference: bool,
    ) -> FloatTensor<Self> {
        if saved.dtype() == DType::F32 { scaled(saved, by) } else { times_scalar::<Self>(saved, by) }
    }
}

/// The autodiff node. Its state is what the backward pass needs, the classes and the constants of the loss.
#[derive(Debug)]
struct ClassLossNode;

impl<B: Backend + ClassLossOps> Backward<B, 1> for ClassLossNode {
    type State = (FloatTensor<B>, IntTensor<B>, Plan, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (saved, classes, plan, reference) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |by| B::class_loss_backward(saved, classes, by, plan, reference));
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
                let (loss, sums, saved) = B::class_loss_saving(logits, classes.clone(), plan.clone(), reference);
                (prep.finish((saved, classes, plan, reference), loss), Self::from_inner(sums))
            }
            OpsKind::UnTracked(prep) => {
                let (loss, sums) = B::class_loss(logits, classes, plan, reference);
                (prep.finish(loss), Self::from_inner(sums))
            }
        }
    }
}
