//! The top-down step of a feature pyramid: the upper level is upsampled and added to the lateral one.
mod repeated;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{Int, Tensor, TensorData};

use crate::cpu::parallel::map_planes;
use crate::cpu::route::{fused_kernel, reference};
use crate::cpu::{CpuBackend, CpuTensor};

/// Computes `lateral + top` with `top` upsampled to the size of `lateral` (Lin et al., arXiv 1612.03144, section 3).
/// Upsampling is by nearest neighbour with torch's rule: output `i` reads input `floor(i * in / out)`. Both tensors
/// receive gradients.
///
/// Burn's `interpolate` is not used: it divides in floating point, which some sizes and 16-bit values round to a
/// neighbouring pixel.
///
/// # Shapes
/// `lateral` and the result `[batch, channels, height, width]`, `top` `[batch, channels, top_height, top_width]`.
///
/// # Panics
/// If batch or channels differ, or if the height or width of `top` is 0.
pub fn upsample_add(lateral: Tensor<4>, top: Tensor<4>) -> Tensor<4> {
    let ([batch, channels, height, width], [top_batch, top_channels, top_height, top_width]) =
        (lateral.dims(), top.dims());
    assert_eq!([batch, channels], [top_batch, top_channels], "upsample_add: batch and channels must agree");
    assert!(top_height > 0 && top_width > 0, "upsample_add: top must not be empty");
    if fused_kernel(&lateral) && fused_kernel(&top) {
        return Tensor::from_dispatch(<Dispatch as UpsampleOps>::upsample_add(
            lateral.into_dispatch(),
            top.into_dispatch(),
        ));
    }
    if !reference() && height.is_multiple_of(top_height) && width.is_multiple_of(top_width) {
        return repeated::add_repeated(lateral, top);
    }
    lateral + stretched(stretched(top, 2, height), 3, width)
}

/// Resizes one axis of a map by nearest neighbour, for any two sizes.
///
/// The gradient of a selection with repeated indices adds values one after the other, which a GPU does in a single
/// thread for each column. Here the pixels are repeated first, and the selection reads none of them twice.
fn stretched(map: Tensor<4>, axis: usize, to: usize) -> Tensor<4> {
    let from = map.dims()[axis];
    if from == to {
        return map;
    }
    let repeats = to.div_ceil(from);
    let map = map.swap_dims(0, axis);
    let [_, a, b, c] = map.dims();
    let repeated = map.unsqueeze_dim::<5>(1).expand([from, repeats, a, b, c]).reshape([from * repeats, a, b, c]);
    let mut before = None;
    let mut repeat = 0;
    let places: Vec<i32> = nearest(from, to)
        .into_iter()
        .map(|pixel| {
            repeat = if before == Some(pixel) { repeat + 1 } else { 0 };
            before = Some(pixel);
            (pixel * repeats + repeat) as i32
        })
        .collect();
    let places = Tensor::<2, Int>::from_data(TensorData::new(places, [to, 1]), &repeated.device());
    repeated.gather_nd::<2, 4>(places).swap_dims(0, axis)
}

/// For each of `to` outputs, the index of the input that it reads, of `from` inputs.
fn nearest(from: usize, to: usize) -> Vec<usize> {
    (0..to).map(|i| i * from / to).collect()
}

/// Extension of Burn's backends by [`upsample_add`], implemented by the CPU backends.
#[backend_extension(NdArray, Flex, Autodiff)]
pub(crate) trait UpsampleOps: Backend {
    /// Computes `lateral + top` with `top` upsampled, see [`upsample_add`].
    fn upsample_add(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl<B: CpuBackend> UpsampleOps for B {
    fn upsample_add(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([_, channels, height, width], [.., top_height, top_width]) = (lateral.sizes::<4>(), top.sizes::<4>());
        let (rows, columns) = (nearest(top_height, height), nearest(top_width, width));
        let (lateral, top) = (lateral.into_nhwc(), top.into_nhwc());
        let (top, top_row) = (top.f32s(), top_width * channels);
        map_planes(lateral, width * channels, |i, to| {
            let from = &top[(i / height * top_height + rows[i % height]) * top_row..][..top_row];
            for (to, column) in to.chunks_exact_mut(channels).zip(&columns) {
                add(to, &from[column * channels..][..channels]);
            }
        })
        .from_nhwc()
    }
}

/// Adds `from` to `to`.
fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// Gradient of the top: for each of its pixels, the sum over the outputs that read it.
fn top_grad<T: CpuTensor>(grad: T, dims: [usize; 4]) -> T {
    let ([.., height, width], [batch, channels, top_height, top_width]) = (grad.sizes::<4>(), dims);
    let grad = grad.into_nhwc();
    let (rows, columns) = (nearest(top_height, height), nearest(top_width, width));
    let (g, row) = (grad.f32s(), width * channels);
    let top = T::from_f32s(vec![0.0; batch * top_height * top_width * channels], [batch, top_height, top_width, channels]);
    map_planes(top, top_width * channels, |i, to| {
        let (image, top_row) = (i / top_height, i % top_height);
        for from in rows.partition_point(|r| *r < top_row)..rows.partition_point(|r| *r <= top_row) {
            let from = &g[(image * height + from) * row..][..row];
            for (from, column) in from.chunks_exact(channels).zip(&columns) {
                add(&mut to[column * channels..][..channels], from);
            }
        }
    })
    .from_nhwc()
}

/// The autodiff node. Its parents are lateral and top; its state is the shape of the top.
#[derive(Debug)]
struct UpsampleNode;

impl<B: CpuBackend> Backward<B, 2> for UpsampleNode {
    type State = [usize; 4];

    fn backward(self, ops: Ops<[usize; 4], 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node).into_nhwc().from_nhwc();
        let [lateral, top] = ops.parents;
        if let Some(node) = top {
            grads.register::<B>(node.id, top_grad(grad.clone(), ops.state));
        }
        if let Some(node) = lateral {
            grads.register::<B>(node.id, grad);
        }
    }
}

impl<B: CpuBackend, C: CheckpointStrategy> UpsampleOps for Autodiff<B, C> {
    fn upsample_add(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        let (lateral, lateral_node) = lateral.into_parts();
        let (top, top_node) = top.into_parts();
        let dims = top.sizes();
        let prep = Backward::<B, 2>::prepare::<C>(UpsampleNode, [lateral_node, top_node]);
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(dims, B::upsample_add(lateral, top)),
            OpsKind::UnTracked(prep) => prep.finish(B::upsample_add(lateral, top)),
        }
    }
}
