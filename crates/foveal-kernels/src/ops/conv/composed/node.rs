//! The composed convolution as an operation of Burn's backends, with its autodiff node.
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, ExtensionType, Flex, NdArray, TensorMetadata, backend_extension,
};
use burn::tensor::DType;

use super::passes::{After, Kernel, Spec, biased, convolved, finish, input_grad, masked, outputs_at_once, weight_grad};
use super::sums::ChannelSumOps;
use crate::ops::elementwise::Activation;

/// A tensor that may be absent.
#[derive(ExtensionType)]
pub(super) enum Optional<B: Backend> {
    /// The tensor.
    Given(FloatTensor<B>),
    /// No tensor.
    Absent,
}

impl<B: Backend> Optional<B> {
    pub(super) fn from(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::Absent, Self::Given)
    }

    fn get(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Given(tensor) => Some(tensor),
            Self::Absent => None,
        }
    }
}

/// The tensors that a composed convolution reads.
#[derive(ExtensionType)]
pub(super) struct Inputs<B: Backend> {
    /// `[batch, in_channels, height, width]`.
    pub(super) x: FloatTensor<B>,
    /// The weight that receives the gradient, `[out_channels, in_channels / groups, kernel, kernel]`.
    pub(super) weight: FloatTensor<B>,
    /// Number added to each output channel, `[out_channels]`. It receives the gradient.
    #[extension_type]
    pub(super) shift: Optional<B>,
    /// Tensor that is added, `[batch, out_channels, out_height, out_width]`.
    #[extension_type]
    pub(super) residual: Optional<B>,
    /// Factor of each output channel, `[1, out_channels, 1, 1]`. It receives no gradient.
    #[extension_type]
    pub(super) scale: Optional<B>,
    /// The values of the shift, `[1, out_channels, 1, 1]`; absent if Burn's convolution adds the shift itself.
    #[extension_type]
    pub(super) shift_map: Optional<B>,
    /// Zeros and ones by which every channel is multiplied, `[1, 1, out_height, out_width]`.
    #[extension_type]
    pub(super) mask: Optional<B>,
    /// The weight in the data type of `x`, of the shape of the weight; absent if this is the weight itself.
    #[extension_type]
    pub(super) folded: Optional<B>,
    /// The folded weight with the channels exchanged and the kernels rotated; if present, the forward pass reads it.
    #[extension_type]
    pub(super) turned: Optional<B>,
}

/// Extension of Burn's backends by the composed convolution.
#[backend_extension(NdArray, Flex, Cube: cfg(feature = "wgpu"), Autodiff)]
pub(super) trait ComposedConvOps: Backend {
    /// Computes `activation(conv(x, weight) * scale + shift + residual) * mask`. `x`, the weight, the shift and the
    /// residual receive gradients.
    fn composed_conv(#[extension_type] inputs: Inputs<Self>, spec: Spec) -> FloatTensor<Self> {
        let kernel = match (inputs.turned.get(), inputs.folded.get()) {
            (Some(weight), _) => Kernel::Turned { weight, at_once: outputs_at_once(&spec.geometry) },
            (None, folded) => Kernel::Folded(folded.unwrap_or(inputs.weight)),
        };
        if spec.only_bias {
            return biased::<Self>(inputs.x, kernel, inputs.shift.get(), &spec);
        }
        let y = convolved::<Self>(inputs.x, kernel, &spec);
        let scale = inputs.scale.get().filter(|_| !spec.scale_in_weight);
        let after = After {
            scale,
            shift: inputs.shift_map.get(),
            residual: inputs.residual.get(),
            activation: spec.activation,
            mask: inputs.mask.get(),
        };
        finish::<Self>(y, after)
    }
}

impl ComposedConvOps for NdArray {}
impl ComposedConvOps for Flex {}
#[cfg(feature = "wgpu")]
impl ComposedConvOps for burn::backend::Cube {}

/// The autodiff node. Its parents are input, weight, shift and residual.
#[derive(Debug)]
struct ComposedConvNode;

/// What the node keeps for the backward pass: the input only if the weight is trained, the output (which the next layer
/// keeps anyway) only if there is an activation, the mask only if there is none.
#[derive(Clone, Debug)]
struct Saved<T> {
    x: Option<NodeId>,
    folded: T,
    scale: Option<T>,
    y: Option<T>,
    mask: Option<T>,
    /// Data type of the weight.
    weight_dtype: DType,
    /// Data type of the shift, if there is one.
    shift_dtype: Option<DType>,
    spec: Spec,
}

impl<B: Backend + ChannelSumOps> Backward<B, 4> for ComposedConvNode {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let Saved { x, folded, scale, y, mask, weight_dtype, shift_dtype, spec } = ops.state;
        let [x_node, weight_node, shift_node, residual_node] = ops.parents.map(|p| p.map(|node| node.id));
        let grad = masked::<B>(grad, y, mask);
        let (weight_scale, map_scale) = if spec.scale_in_weight { (scale, None) } else { (None, scale) };
        let scaled = match map_scale {
            Some(scale) => B::float_mul(grad.clone(), scale),
            None => grad.clone(),
        };
        let x = x.map(|x| checkpointer.retrieve_node_output::<FloatTensor<B>>(x));
        if let (Some(node), Some(dtype)) = (shift_node, shift_dtype) {
            grads.register::<B>(node, B::channel_sums(grad.clone(), dtype));
        }
        if let (Some(node), Some(x)) = (weight_node, &x) {
            let dw =
                weight_grad::<B>(x.clone(), folded.clone(), scaled.clone(), weight_scale, weight_dtype, &spec.geometry);
            grads.register::<B>(node, dw);
        }
        if let Some(node) = x_node {
            grads.register::<B>(node, input_grad::<B>(x, folded, scaled, &spec.geometry));
        }
        if let Some(node) = residual_node {
            grads.register::<B>(node, grad);
        }
    }
}

impl<B: Backend + ComposedConvOps + ChannelSumOps, C: CheckpointStrategy> ComposedConvOps for Autodiff<B, C> {
    fn composed_conv(inputs: Inputs<Self>, spec: Spec) -> FloatTensor<Self> {
        let Inputs { x, weight, shift, residual, scale, shift_map, mask, folded, turned } = inputs;
        let [shift, residual] = [shift, residual].map(Optional::get);
        // A node without gradient stands for an absent parent.
        let node = |tensor: &Option<FloatTensor<Self>>| -> NodeGuard {
            match tensor {
                Some(tensor) => tensor.node(),
                None => Self::from_inner(x.primitive().clone()).node(),
            }
        };
        let nodes = [x.node(), weight.node(), node(&shift), node(&residual)];
        let prep = Backward::<B, 4>::prepare::<C>(ComposedConvNode, nodes).compute_bound().stateful();
        let (weight_dtype, shift_dtype) = (weight.dtype(), shift.as_ref().map(TensorMetadata::dtype));
        let [shift, residual] = [shift, residual].map(|t| t.map(|t| t.into_primitive()));
        let [scale, shift_map, mask, folded, turned] =
            [scale, shift_map, mask, folded, turned].map(|t| t.get().map(|t| t.into_primitive()));
        let run = |x: FloatTensor<Self>,
                   weight: FloatTensor<Self>,
                   [scale, mask, folded]: [Option<FloatTensor<B>>; 3],
                   spec| {
            let inputs = Inputs::<B> {
                x: x.into_primitive(),
                weight: weight.into_primitive(),
                shift: Optional::from(shift),
                residual: Optional::from(residual),
                scale: Optional::from(scale),
                shift_map: Optional::from(shift_map),
                mask: Optional::from(mask),
                folded: Optional::from(folded),
                turned: Optional::from(turned),
            };
            B::composed_conv(inputs, spec)
        };
        match prep {
            OpsKind::Tracked(mut prep) => {
                let saved_x = weight.is_tracked().then(|| prep.checkpoint(&x));
                let saved_folded = folded.clone().unwrap_or_else(|| weight.primitive().clone());
                let activated = spec.activation == Activation::Relu;
                let saved_mask = mask.clone().filter(|_| !activated);
                let y = run(x, weight, [scale.clone(), mask, folded], spec.clone());
                let state = Saved {
                    x: saved_x,
                    folded: saved_folded,
                    scale,
                    y: activated.then(|| y.clone()),
                    mask: saved_mask,
                    weight_dtype,
                    shift_dtype,
                    spec,
                };
                prep.finish(state, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(run(x, weight, [scale, mask, folded], spec)),
        }
    }
}
