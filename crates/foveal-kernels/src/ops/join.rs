//! Several feature maps of each image, joined in one tensor.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::cpu::parallel::GRAIN;
use crate::cpu::route::fused_kernel;
use crate::cpu::{CpuBackend, CpuTensor};

/// Joins the pixels of several maps: `[batch, channels, pixels of all maps]`, each map row by row, one after the other.
/// The maps receive gradients. On the CPU backends the result has the channels last in memory.
///
/// # Shapes
/// `maps` `[batch, channels, height, width]`, with the same batch and channels; the result is `[batch, channels, pixels]`.
///
/// # Panics
/// If there is no map, or the maps differ in batch or channels.
pub fn join_maps(maps: &[Tensor<4>]) -> Tensor<3> {
    let flat = |map: &Tensor<4>| map.clone().flatten(2, 3);
    let [batch, channels, ..] = maps.first().expect("join_maps: expected at least one map").dims();
    assert!(
        maps.iter().all(|map| map.dims()[..2] == [batch, channels]),
        "join_maps: the maps differ in batch or channels"
    );
    if !maps.iter().all(fused_kernel) {
        return Tensor::cat(maps.iter().map(flat).collect(), 2);
    }
    // One node joins two tensors; the copies of a few small maps cost little, so the last ones are joined first.
    let of = |map: &Tensor<4>| {
        let [batch, channels, height, width] = map.dims();
        let pixels = <Dispatch as JoinOps>::pixels_of(map.clone().into_dispatch());
        let pixels = Tensor::<3>::from_dispatch(pixels);
        debug_assert_eq!(pixels.dims(), [batch, channels, height * width]);
        pixels
    };
    let joined = maps.iter().rev().map(of).reduce(|after, before| {
        Tensor::from_dispatch(<Dispatch as JoinOps>::join(before.into_dispatch(), after.into_dispatch()))
    });
    joined.expect("there is a map")
}

/// Extension of Burn's backends by [`join_maps`], implemented by the CPU backends.
#[backend_extension(NdArray, Flex, Autodiff)]
pub(crate) trait JoinOps: Backend {
    /// The pixels of a map `[batch, channels, height, width]`, `[batch, channels, pixels]`.
    fn pixels_of(map: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Joins two tensors `[batch, channels, pixels]` along the pixels.
    fn join(before: FloatTensor<Self>, after: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl<B: CpuBackend> JoinOps for B {
    fn pixels_of(map: FloatTensor<Self>) -> FloatTensor<Self> {
        let [batch, channels, height, width] = map.sizes();
        reshaped(map.into_nhwc(), [batch, height * width, channels]).from_nhwc()
    }

    fn join(before: FloatTensor<Self>, after: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([batch, channels, first], [_, _, second]) = (before.sizes(), after.sizes());
        let (before, after) = (before.into_nhwc(), after.into_nhwc());
        let (lens, pixels) = ([first * channels, second * channels], first + second);
        let mut out = vec![0.0; batch * pixels * channels];
        if !out.is_empty() {
            for (image, to) in out.chunks_exact_mut(pixels * channels).enumerate() {
                let (left, right) = to.split_at_mut(lens[0]);
                copy(left, &before.f32s()[image * lens[0]..]);
                copy(right, &after.f32s()[image * lens[1]..]);
            }
        }
        FloatTensor::<Self>::from_f32s(out, [batch, pixels, channels]).from_nhwc()
    }
}

/// The tensor with another shape of as many elements.
fn reshaped<T: CpuTensor, const D: usize>(x: T, shape: [usize; D]) -> T {
    x.reshaped(burn::tensor::Shape::from(shape))
}

fn copy(to: &mut [f32], from: &[f32]) {
    to.par_chunks_mut(GRAIN).zip(from.par_chunks(GRAIN)).for_each(|(to, from)| to.copy_from_slice(&from[..to.len()]));
}

/// The pixels `first..last` of each image of `[batch, all pixels, channels]`.
fn part<T: CpuTensor>(x: &T, first: usize, last: usize) -> T {
    let [batch, pixels, channels] = x.sizes();
    let len = (last - first) * channels;
    let mut out = vec![0.0; batch * len];
    if len > 0 {
        for (image, to) in out.chunks_exact_mut(len).enumerate() {
            copy(to, &x.f32s()[(image * pixels + first) * channels..]);
        }
    }
    T::from_f32s(out, [batch, last - first, channels]).from_nhwc()
}

/// The autodiff node of [`JoinOps::pixels_of`]. Its state is the map's shape.
#[derive(Debug)]
struct PixelsNode;

impl<B: CpuBackend> Backward<B, 1> for PixelsNode {
    type State = [usize; 4];

    fn backward(self, ops: Ops<[usize; 4], 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node).into_nhwc();
        let [batch, channels, height, width] = ops.state;
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, reshaped(grad, [batch, height, width, channels]).from_nhwc());
        }
    }
}

/// The autodiff node of [`JoinOps::join`]. Its state is the number of pixels of the first tensor.
#[derive(Debug)]
struct JoinNode;

impl<B: CpuBackend> Backward<B, 2> for JoinNode {
    type State = usize;

    fn backward(self, ops: Ops<usize, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node).into_nhwc();
        let [_, pixels, _] = grad.sizes();
        for (node, [first, last]) in ops.parents.into_iter().zip([[0, ops.state], [ops.state, pixels]]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, part(&grad, first, last));
            }
        }
    }
}

impl<B: CpuBackend, C: CheckpointStrategy> JoinOps for Autodiff<B, C> {
    fn pixels_of(map: FloatTensor<Self>) -> FloatTensor<Self> {
        let (map, guard) = map.into_parts();
        let dims = map.sizes();
        match Backward::<B, 1>::prepare::<C>(PixelsNode, [guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(dims, B::pixels_of(map)),
            OpsKind::UnTracked(prep) => prep.finish(B::pixels_of(map)),
        }
    }

    fn join(before: FloatTensor<Self>, after: FloatTensor<Self>) -> FloatTensor<Self> {
        let (before, before_node) = before.into_parts();
        let (after, after_node) = after.into_parts();
        let [_, _, first] = before.sizes();
        match Backward::<B, 2>::prepare::<C>(JoinNode, [before_node, after_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(first, B::join(before, after)),
            OpsKind::UnTracked(prep) => prep.finish(B::join(before, after)),
        }
    }
}
