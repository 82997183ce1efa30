//! The class losses of several images in one operation of the CPU backends, with its autodiff node.
//!
//! The loss of each image has a gradient of its own, so that the losses can be weighted. If each image were cut out of
//! the logits instead, its gradient would be padded with zeros to the size of the logits of the batch.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, backend_extension};
use burn::tensor::IntDType;

use super::Plan;
use super::kernel::{Pass, pass, scaled};
use crate::cpu::CpuBackend;

/// Extension of Burn's backends by the class losses of several images, implemented by the CPU backends.
#[backend_extension(NdArray, Flex, Autodiff)]
pub(super) trait ImageLossOps: Backend {
    /// Computes the loss of each image, `[images]`, and the sums of all images one after the other, each with its
    /// breakdown if the plan has a layout.
    fn class_losses(
        logits: FloatTensor<Self>,
        classes: IntTensor<Self>,
        images: usize,
        plan: Plan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl<B: CpuBackend> ImageLossOps for B {
    fn class_losses(
        logits: FloatTensor<Self>,
        classes: IntTensor<Self>,
        images: usize,
        plan: Plan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let Pass { loss, sums, .. } = run::<B>(logits, classes, images, &plan, false);
        (loss, sums)
    }
}

fn run<B: CpuBackend>(
    logits: FloatTensor<B>,
    classes: IntTensor<B>,
    images: usize,
    plan: &Plan,
    want_grad: bool,
) -> Pass<FloatTensor<B>> {
    // The integers of ndarray may be i64.
    pass(logits, B::int_cast(classes, IntDType::I32), images, plan, want_grad)
}

/// The autodiff node. Its state is the gradient with respect to the logits if the gradient of each loss is 1.
#[derive(Debug)]
struct ImageLossNode;

impl<B: CpuBackend> Backward<B, 1> for ImageLossNode {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |by| scaled(ops.state, by));
    }
}

impl<B: CpuBackend, C: CheckpointStrategy> ImageLossOps for Autodiff<B, C> {
    fn class_losses(
        logits: FloatTensor<Self>,
        classes: IntTensor<Self>,
        images: usize,
        plan: Plan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (logits, guard) = logits.into_parts();
        match Backward::<B, 1>::prepare::<C>(ImageLossNode, [guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let Pass { loss, sums, grad } = run::<B>(logits, classes, images, &plan, true);
                let Some(grad) = grad else { unreachable!("the gradient was requested") };
                (prep.finish(grad, loss), Self::from_inner(sums))
            }
            OpsKind::UnTracked(prep) => {
                let (loss, sums) = B::class_losses(logits, classes, images, plan);
                (prep.finish(loss), Self::from_inner(sums))
            }
        }
    }
}
