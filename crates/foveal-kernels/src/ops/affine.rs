//! Scale and shift per channel, an optional residual and an activation, in one pass over memory.
//!
//! A frozen batch norm is such an operation, with its statistics folded into scale and shift.
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::cpu::pixels::{Parts, channel_sums, map_pixels, vector};
use crate::cpu::route::fused_kernel;
use crate::cpu::{CpuBackend, CpuTensor};
use crate::ops::elementwise::{Activation, masked_scaled, relu};

/// Computes `activation(x * scale + shift + residual)` with one scale and one shift per channel. Without a residual
/// nothing is added. All four tensors receive gradients.
///
/// The maps `x`, residual and result have one data type. Scale and shift may have more bits; the sum is then computed
/// in their data type and rounded once.
///
/// # Shapes
/// `x`, `residual` and the result `[batch, channels, height, width]`, `scale` and `shift` `[channels]`.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn affine(
    x: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    residual: Option<Tensor<4>>,
    activation: Activation,
) -> Tensor<4> {
    let channels = x.dims()[1];
    assert_eq!([scale.dims(), shift.dims()], [[channels]; 2], "affine: scale and shift must have {channels} channels");
    if let Some(residual) = &residual {
        assert_eq!(residual.dims(), x.dims(), "affine: the residual must have the shape of x");
    }
    if !fused_kernel(&x) {
        let (maps, inner) = (x.dtype(), scale.dtype());
        let by_channel = |t: Tensor<1>| t.reshape([1, channels, 1, 1]);
        let y = x.cast(inner) * by_channel(scale) + by_channel(shift);
        let y = activation.reference(match residual {
            Some(residual) => y + residual.cast(inner),
            None => y,
        });
        return y.cast(maps);
    }
    let (x, scale, shift) = (x.into_dispatch(), scale.into_dispatch(), shift.into_dispatch());
    Tensor::from_dispatch(match residual {
        Some(residual) => {
            <Dispatch as AffineOps>::affine_residual(x, scale, shift, residual.into_dispatch(), activation)
        }
        None => <Dispatch as AffineOps>::affine(x, scale, shift, activation),
    })
}

/// Extension of Burn's backends by [`affine`], implemented by the CPU backends.
#[backend_extension(NdArray, Flex, Autodiff)]
pub(crate) trait AffineOps: Backend {
    /// Computes `activation(x * scale + shift)`, see [`affine`].
    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;
    /// Computes `activation(x * scale + shift + residual)`, see [`affine`].
    fn affine_residual(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;
}

impl<B: CpuBackend> AffineOps for B {
    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        forward(x, scale, shift, None, activation)
    }

    fn affine_residual(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        forward(x, scale, shift, Some(residual), activation)
    }
}

/// `activation(x * scale + shift + residual)` in one pass over memory.
fn forward<T: CpuTensor>(x: T, scale: T, shift: T, residual: Option<T>, activation: Activation) -> T {
    let (scale, shift, residual) = (scale.contiguous(), shift.contiguous(), residual.map(T::into_nhwc));
    let (parts, params) = (Parts::whole(&x), [scale.f32s(), shift.f32s()]);
    match (residual.as_ref().map(T::f32s), activation) {
        (None, Activation::None) => map_pixels(x, [], &parts, params, |v, [], [a, b]| v * a + b),
        (None, Activation::Relu) => map_pixels(x, [], &parts, params, |v, [], [a, b]| relu(v * a + b)),
        (Some(r), Activation::None) => map_pixels(x, [r], &parts, params, |v, [r], [a, b]| v * a + b + r),
        (Some(r), Activation::Relu) => map_pixels(x, [r], &parts, params, |v, [r], [a, b]| relu(v * a + b + r)),
    }
}

/// Gradient of the shift, `[channels]`: the gradient before the activation, summed over images and pixels.
fn shift_grad<T: CpuTensor>(grad: T) -> T {
    let parts = Parts::whole(&grad);
    let [sums] = channel_sums([grad.into_nhwc().f32s()], &parts, [], |[g], []| [g]);
    vector(&sums)
}

/// Gradients of scale and shift, `[channels]` each: gradient times input, and gradient, summed over images and pixels.
fn scale_and_shift_grads<T: CpuTensor>(grad: T, x: T) -> [T; 2] {
    let parts = Parts::whole(&grad);
    let maps = [grad.into_nhwc(), x.into_nhwc()];
    channel_sums(maps.each_ref().map(T::f32s), &parts, [], |[g, x], []| [g * x, g]).map(|sums| vector(&sums))
}

/// The autodiff node. Its parents are input, scale, shift and, with `N = 4`, residual.
#[derive(Debug)]
struct AffineNode;

/// What the node keeps for the backward pass: the input only if the scale is trained, the scale only if the input needs
/// a gradient, the output (which the next layer keeps anyway) only if there is an activation.
#[derive(Clone, Debug)]
struct Saved<T> {
    x: Option<NodeId>,
    scale: Option<T>,
    y: Option<T>,
}

impl<B: CpuBackend, const N: usize> Backward<B, N> for AffineNode {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let mut grad = grads.consume::<B>(&ops.node).into_nhwc().from_nhwc();
        let Saved { x, scale, mut y } = ops.state;
        let parent = |i: usize| ops.parents.get(i).and_then(Option::as_ref).map(|node| node.id);
        if (1..N).any(|i| parent(i).is_some()) {
            grad = masked_scaled(grad, y.take().as_ref(), None);
        }
        if let (Some(node), Some(x)) = (parent(1), x) {
            let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
            let [of_scale, of_shift] = scale_and_shift_grads(grad.clone(), x);
            grads.register::<B>(node, of_scale);
            if let Some(node) = parent(2) {
                grads.register::<B>(node, of_shift);
            }
        } else if let Some(node) = parent(2) {
            grads.register::<B>(node, shift_grad(grad.clone()));
        }
        if let Some(node) = parent(3) {
            grads.register::<B>(node, grad.clone());
        }
        if let Some(node) = parent(0) {
            grads.register::<B>(node, masked_scaled(grad, y.as_ref(), scale.as_ref()));
        }
    }
}

/// The output, if the gradient of the activation needs it.
fn keep<T: Clone>(y: &T, activation: Activation) -> Option<T> {
    (activation == Activation::Relu).then(|| y.clone())
}

impl<B: CpuBackend, C: CheckpointStrategy> AffineOps for Autodiff<B, C> {
    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scale.node(), shift.node()];
        match Backward::<B, 3>::prepare::<C>(AffineNode, nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let saved_x = scale.is_tracked().then(|| prep.checkpoint(&x));
                let saved_scale = x.is_tracked().then(|| scale.primitive().clone());
                let y = B::affine(x.into_primitive(), scale.into_primitive(), shift.into_primitive(), activation);
                prep.finish(Saved { x: saved_x, scale: saved_scale, y: keep(&y, activation) }, y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::affine(x.into_primitive(), scale.into_primitive(), shift.into_primitive(), activation))
            }
        }
    }

    fn affine_residual(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scale.node(), shift.node(), residual.node()];
        let prep = Backward::<B, 4>::prepare::<C>(AffineNode, nodes).compute_bound().stateful();
        let run = |x, scale, shift, residual| B::affine_residual(x, scale, shift, residual, activation);
        match prep {
            OpsKind::Tracked(mut prep) => {
                let saved_x = scale.is_tracked().then(|| prep.checkpoint(&x));
                let saved_scale = x.is_tracked().then(|| scale.primitive().clone());
                let y =
                    run(x.into_primitive(), scale.into_primitive(), shift.into_primitive(), residual.into_primitive());
                prep.finish(Saved { x: saved_x, scale: saved_scale, y: keep(&y, activation) }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(run(
                x.into_primitive(),
                scale.into_primitive(),
                shift.into_primitive(),
                residual.into_primitive(),
            )),
        }
    }
}
