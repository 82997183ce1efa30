//! The top-down step for maps whose sizes are multiples of those of the upper level, in operations on views of
//! channels-last memory. It is one autodiff node with one operation in each direction, because fusion would run the
//! changes of the view as operations of their own.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{
    Autodiff, Backend, Dispatch, Flex, NdArray, TensorMetadata, backend_extension, tensor::FloatTensor,
};
use burn::tensor::{Shape, Tensor};

/// Computes `lateral + top` with each pixel of `top` repeated along both axes. Nothing is copied if both maps have the
/// channels last in memory, as those of GPU kernels do: one addition reads each pixel of `top` several times, and the
/// gradient of `top` is a sum.
///
/// # Shapes
/// - lateral, result: `[batch, channels, height, width]`
/// - top: `[batch, channels, top_height, top_width]`, which divide height and width
pub(super) fn add_repeated(lateral: Tensor<4>, top: Tensor<4>) -> Tensor<4> {
    let sum = <Dispatch as RepeatOps>::add_repeated(lateral.into_dispatch(), top.into_dispatch());
    Tensor::from_dispatch(sum)
}

/// Extension of Burn's backends by the addition of a map whose pixels are repeated.
#[backend_extension(NdArray, Flex, Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"), Autodiff)]
trait RepeatOps: Backend {
    /// Adds `top` to `lateral`, see [`add_repeated`].
    #[fusion(dtype = lateral, shape = lateral)]
    fn add_repeated(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        let blocks = Blocks::of(lateral.shape().dims(), top.shape().dims());
        let top = Self::float_reshape(channels_last::<Self>(top), blocks.top());
        let shape = channels_last_shape(&lateral.shape());
        let lateral = Self::float_reshape(channels_last::<Self>(lateral), blocks.lateral());
        let sum = Self::float_reshape(Self::float_add(lateral, top), shape);
        Self::float_permute(sum, &[0, 3, 1, 2])
    }
}

impl RepeatOps for NdArray {}
impl RepeatOps for Flex {}
#[cfg(feature = "wgpu")]
impl RepeatOps for burn::backend::wgpu::CubeBackend {}

/// Extension of Burn's backends by the gradient of the map whose pixels are repeated.
#[backend_extension(NdArray, Flex, Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait RepeatGradOps: Backend {
    /// Sums the pixels of `grad` that read the same pixel of the upper level, whose shape is `top`.
    #[fusion(dtype = grad, shape = top.clone())]
    fn sum_repeated(grad: FloatTensor<Self>, top: Shape) -> FloatTensor<Self> {
        let blocks = Blocks::of(grad.shape().dims(), top.dims());
        let grad = Self::float_reshape(channels_last::<Self>(grad), blocks.lateral());
        let sum = Self::float_reshape(Self::float_sum_dims(grad, &[2, 4]), channels_last_shape(&top));
        Self::float_permute(sum, &[0, 3, 1, 2])
    }
}

impl RepeatGradOps for NdArray {}
impl RepeatGradOps for Flex {}
#[cfg(feature = "wgpu")]
impl RepeatGradOps for burn::backend::wgpu::CubeBackend {}

/// A view of a map `[batch, channels, height, width]` as `[batch, height, width, channels]`.
fn channels_last<B: Backend>(map: FloatTensor<B>) -> FloatTensor<B> {
    B::float_permute(map, &[0, 2, 3, 1])
}

/// The shape of the view of a map of the given shape with the channels last.
fn channels_last_shape(map: &Shape) -> Shape {
    let [batch, channels, height, width] = map.dims();
    Shape::from([batch, height, width, channels])
}

/// The lower level seen as blocks of pixels, each of which reads one pixel of the upper level.
struct Blocks {
    batch: usize,
    channels: usize,
    /// Height and width of the upper level.
    top: [usize; 2],
    /// Height and width of a block.
    block: [usize; 2],
}

impl Blocks {
    fn of([batch, channels, height, width]: [usize; 4], [.., top_height, top_width]: [usize; 4]) -> Self {
        Self { batch, channels, top: [top_height, top_width], block: [height / top_height, width / top_width] }
    }

    /// The lower level with an axis for each axis of the blocks.
    fn lateral(&self) -> Shape {
        Shape::from([self.batch, self.top[0], self.block[0], self.top[1], self.block[1], self.channels])
    }

    /// The upper level with axes of length 1 where the lower level has those of its blocks.
    fn top(&self) -> Shape {
        Shape::from([self.batch, self.top[0], 1, self.top[1], 1, self.channels])
    }
}

/// The autodiff node. Its parents are lateral and top; its state is the shape of the top.
#[derive(Debug)]
struct RepeatNode;

impl<B: Backend + RepeatGradOps> Backward<B, 2> for RepeatNode {
    type State = Shape;

    fn backward(self, ops: Ops<Shape, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [lateral, top] = ops.parents;
        if let Some(node) = top {
            grads.register::<B>(node.id, B::sum_repeated(grad.clone(), ops.state));
        }
        if let Some(node) = lateral {
            grads.register::<B>(node.id, grad);
        }
    }
}

impl<B: Backend + RepeatOps + RepeatGradOps, C: CheckpointStrategy> RepeatOps for Autodiff<B, C> {
    fn add_repeated(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        let (lateral, lateral_node) = lateral.into_parts();
        let (top, top_node) = top.into_parts();
        let shape = top.shape();
        let prep = Backward::<B, 2>::prepare::<C>(RepeatNode, [lateral_node, top_node]);
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(shape, B::add_repeated(lateral, top)),
            OpsKind::UnTracked(prep) => prep.finish(B::add_repeated(lateral, top)),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::ops::upsample::upsample_add;
    use crate::test_common::{assert_close, grad_of, leaf, with_grads};

    #[test]
    fn repeated_pixels_are_added_and_summed_as_by_the_cpu_kernel() {
        for ([height, width], top) in [([6, 8], [3, 4]), ([6, 4], [2, 4]), ([3, 5], [1, 1]), ([2, 3], [2, 3])] {
            for tracked in [[true, true], [true, false], [false, true]] {
                let run = |add: fn(Tensor<4>, Tensor<4>) -> Tensor<4>| {
                    let device = Device::flex().autodiff();
                    let lateral = leaf(1, [2, 3, height, width], &device, tracked[0]);
                    let top = leaf(2, [2, 3, top[0], top[1]], &device, tracked[1]);
                    with_grads(add(lateral.clone(), top.clone()), vec![grad_of(&lateral), grad_of(&top)])
                };
                let what = format!("{top:?} to {height}x{width}, {tracked:?}");
                assert_close(&what, &run(add_repeated), &run(upsample_add));
            }
        }
    }
}
