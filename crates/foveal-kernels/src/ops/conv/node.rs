//! The convolution as an operation of Burn's backends, with its autodiff node.
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, backend_extension, tensor::FloatTensor};

use super::backward::{input_grad, shift_grad, weight_grad};
use super::forward::{Extra, forward};
use super::spec::ConvSpec;
use crate::cpu::parallel::zip_flat;
use crate::cpu::{CpuBackend, CpuTensor};
use crate::ops::elementwise::Activation;

/// Extension of Burn's backends by the fused convolution, implemented by the CPU backends.
#[backend_extension(NdArray, Flex, Autodiff)]
pub(super) trait ConvOps: Backend {
    /// Computes `activation(conv(x, weight) * scale + shift + residual)`. Tensors that are absent according to `spec`
    /// are empty. All tensors except the scale receive gradients.
    fn conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        spec: ConvSpec,
    ) -> FloatTensor<Self>;
}

impl<B: CpuBackend> ConvOps for B {
    fn conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        spec: ConvSpec,
    ) -> FloatTensor<Self> {
        forward(x, weight, Extra { scale, shift, residual }, &spec)
    }
}

/// The autodiff node. Its parents are input, weight, shift and residual.
#[derive(Debug)]
struct ConvNode;

/// What the node keeps for the backward pass: the input only if the weight is trained, the weight only if the input
/// needs a gradient, the output (which the next layer keeps anyway) only if there is an activation.
#[derive(Clone, Debug)]
struct Saved<T> {
    x: Option<NodeId>,
    weight: Option<NodeId>,
    scale: Option<T>,
    y: Option<T>,
    spec: ConvSpec,
}

impl<B: CpuBackend> Backward<B, 4> for ConvNode {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let mut grad = grads.consume::<B>(&ops.node).contiguous();
        let Saved { x, weight, scale, y, spec } = ops.state;
        let [x_node, weight_node, shift_node, residual_node] = ops.parents.map(|p| p.map(|node| node.id));
        if let Some(y) = y {
            grad = zip_flat(grad, &y, |g, y| *g = if y > 0.0 { *g } else { 0.0 });
        }
        if let Some(node) = shift_node {
            grads.register::<B>(node, shift_grad(&grad, &spec));
        }
        if let (Some(node), Some(x)) = (weight_node, x) {
            let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
            grads.register::<B>(node, weight_grad(x, scale.as_ref(), grad.clone(), &spec));
        }
        if let (Some(node), Some(weight)) = (x_node, weight) {
            let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
            grads.register::<B>(node, input_grad(weight, scale.as_ref(), grad.clone(), &spec));
        }
        if let Some(node) = residual_node {
            grads.register::<B>(node, grad);
        }
    }
}

impl<B: CpuBackend, C: CheckpointStrategy> ConvOps for Autodiff<B, C> {
    fn conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        spec: ConvSpec,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), shift.node(), residual.node()];
        let prep = Backward::<B, 4>::prepare::<C>(ConvNode, nodes).compute_bound().stateful();
        let saved_scale = spec.parts.scale.then(|| scale.primitive().clone());
        let run = |x: FloatTensor<Self>, weight: FloatTensor<Self>, spec: ConvSpec| {
            let [x, weight, scale, shift, residual] = [x, weight, scale, shift, residual].map(|t| t.into_primitive());
            B::conv(x, weight, scale, shift, residual, spec)
        };
        match prep {
            OpsKind::Tracked(mut prep) => {
                let saved_x = weight.is_tracked().then(|| prep.checkpoint(&x));
                let saved_weight = x.is_tracked().then(|| prep.checkpoint(&weight));
                let y = run(x, weight, spec.clone());
                let kept = (spec.activation == Activation::Relu).then(|| y.clone());
                prep.finish(Saved { x: saved_x, weight: saved_weight, scale: saved_scale, y: kept, spec }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(run(x, weight, spec)),
        }
    }
}
