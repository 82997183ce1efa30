//! The convolution as an operation of Burn's backends, with its autodiff node.
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, backend_extension, tensor::FloatTensor};

use super::backward::{bias_grad, input_grad, weight_grad};
use super::forward::forward;
use super::geometry::Geometry;
use crate::cpu::CpuBackend;

/// Convolutions that the CPU backends compute themselves.
#[backend_extension(NdArray, Flex, Autodiff)]
pub trait ConvOps: Backend {
    /// Without a bias.
    fn conv(x: FloatTensor<Self>, weight: FloatTensor<Self>, geometry: Geometry) -> FloatTensor<Self>;
    /// With a bias.
    fn conv_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;
}

impl<B: CpuBackend> ConvOps for B {
    fn conv(x: FloatTensor<Self>, weight: FloatTensor<Self>, geometry: Geometry) -> FloatTensor<Self> {
        forward(x, weight, None, &geometry)
    }

    fn conv_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        forward(x, weight, Some(bias), &geometry)
    }
}

/// The autodiff node; parents are input, weight and, with `N = 3`, bias.
#[derive(Debug)]
struct ConvNode;

/// What the node keeps: the input only for a weight that learns, the weight only for an input that does.
#[derive(Clone, Debug)]
struct Saved {
    x: Option<NodeId>,
    weight: Option<NodeId>,
    geometry: Geometry,
}

impl<B: CpuBackend, const N: usize> Backward<B, N> for ConvNode {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, N>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let Saved { x, weight, geometry } = ops.state;
        let parent = |i: usize| ops.parents.get(i).and_then(Option::as_ref).map(|node| node.id);
        if let (Some(node), Some(x)) = (parent(1), x) {
            let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
            grads.register::<B>(node, weight_grad(x, grad.clone(), &geometry));
        }
        if let Some(node) = parent(2) {
            grads.register::<B>(node, bias_grad(grad.clone(), &geometry));
        }
        if let (Some(node), Some(weight)) = (parent(0), weight) {
            let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
            grads.register::<B>(node, input_grad(weight, grad, &geometry));
        }
    }
}

impl<B: CpuBackend, C: CheckpointStrategy> ConvOps for Autodiff<B, C> {
    fn conv(x: FloatTensor<Self>, weight: FloatTensor<Self>, geometry: Geometry) -> FloatTensor<Self> {
        match Backward::<B, 2>::prepare::<C>(ConvNode, [x.node(), weight.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let saved = Saved {
                    x: weight.is_tracked().then(|| prep.checkpoint(&x)),
                    weight: x.is_tracked().then(|| prep.checkpoint(&weight)),
                    geometry,
                };
                prep.finish(saved, B::conv(x.into_primitive(), weight.into_primitive(), geometry))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::conv(x.into_primitive(), weight.into_primitive(), geometry)),
        }
    }

    fn conv_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        match Backward::<B, 3>::prepare::<C>(ConvNode, nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let saved = Saved {
                    x: weight.is_tracked().then(|| prep.checkpoint(&x)),
                    weight: x.is_tracked().then(|| prep.checkpoint(&weight)),
                    geometry,
                };
                let y = B::conv_bias(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), geometry);
                prep.finish(saved, y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::conv_bias(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), geometry))
            }
        }
    }
}
