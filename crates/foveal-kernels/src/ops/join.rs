//! The pixels of several maps in one tensor.
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::cpu::parallel::GRAIN;
use crate::cpu::route::fused_kernel;
use crate::cpu::{CpuBackend, CpuTensor};
use crate::ops::conv::{Level, MapSize, Maps};

/// Largest number of maps that the fused kernel joins.
const MAPS: usize = 8;

/// Joins the pixels of several maps of the same images, in the order of the maps. On the CPU backends the result has the
/// channels last in memory. All maps receive gradients.
///
/// # Shapes
/// - maps: `[batch, channels, height, width]` each, with the same batch and channels
/// - result: `[batch, channels, pixels]`, where each channel contains the maps, each row by row, one after the other
///
/// # Panics
/// If there is no map, or if batch or channels of the maps differ.
pub fn join_maps(maps: &[Tensor<4>]) -> Tensor<3> {
    let first = maps.first().expect("join_maps: expected a map, found none");
    let [batch, channels, _, _] = first.dims();
    for map in maps {
        let [images, found, _, _] = map.dims();
        assert_eq!([images, found], [batch, channels], "join_maps: batch and channels of all maps must be the same");
    }
    if maps.len() > MAPS || !maps.iter().all(fused_kernel) {
        return Tensor::cat(maps.iter().map(|map| map.clone().flatten(2, 3)).collect(), 2);
    }
    let sizes: Vec<MapSize> = maps.iter().map(MapSize::of).collect();
    // The operation has a fixed number of tensors. Those beyond the last map are not read.
    let unused = first.clone().without_autodiff();
    let [m0, m1, m2, m3, m4, m5, m6, m7]: [_; MAPS] =
        std::array::from_fn(|map| maps.get(map).unwrap_or(&unused).clone().into_dispatch());
    let joined = <Dispatch as JoinOps>::join_maps(m0, m1, m2, m3, m4, m5, m6, m7, Maps::new(batch, &sizes));
    Tensor::from_dispatch(joined)
}

/// Extension of Burn's backends by [`join_maps`], implemented by the CPU backends.
#[backend_extension(NdArray, Flex, Autodiff)]
pub(crate) trait JoinOps: Backend {
    /// Joins the maps that `maps` lists; tensors beyond the last one are not read. See [`join_maps`].
    #[allow(clippy::too_many_arguments, reason = "an operation has no lists of tensors")]
    fn join_maps(
        m0: FloatTensor<Self>,
        m1: FloatTensor<Self>,
        m2: FloatTensor<Self>,
        m3: FloatTensor<Self>,
        m4: FloatTensor<Self>,
        m5: FloatTensor<Self>,
        m6: FloatTensor<Self>,
        m7: FloatTensor<Self>,
        maps: Maps,
    ) -> FloatTensor<Self>;
}

impl<B: CpuBackend> JoinOps for B {
    fn join_maps(
        m0: FloatTensor<Self>,
        m1: FloatTensor<Self>,
        m2: FloatTensor<Self>,
        m3: FloatTensor<Self>,
        m4: FloatTensor<Self>,
        m5: FloatTensor<Self>,
        m6: FloatTensor<Self>,
        m7: FloatTensor<Self>,
        maps: Maps,
    ) -> FloatTensor<Self> {
        joined([m0, m1, m2, m3, m4, m5, m6, m7].into_iter().take(maps.levels.len()).collect(), &maps)
    }
}

/// Number of pixels of a map.
fn pixels(level: &Level) -> usize {
    level.height * level.width
}

fn joined<T: CpuTensor>(maps: Vec<T>, layout: &Maps) -> T {
    let [_, channels, _, _] = maps[0].sizes();
    let maps: Vec<T> = maps.into_iter().map(T::into_nhwc).collect();
    let mut out = vec![0f32; layout.batch * layout.pixels * channels];
    let mut pieces = Vec::new();
    let mut rest = out.as_mut_slice();
    for image in 0..layout.batch {
        for (map, level) in maps.iter().zip(&layout.levels) {
            let len = pixels(level) * channels;
            let (to, after) = std::mem::take(&mut rest).split_at_mut(len);
            rest = after;
            pieces.push((to, &map.f32s()[image * len..][..len]));
        }
    }
    copy(pieces);
    T::from_f32s(out, [layout.batch, layout.pixels, channels]).from_nhwc()
}

/// The maps in a tensor of joined maps, which are the gradients of the maps if the tensor is a gradient.
fn separated<T: CpuTensor>(joined: T, layout: &Maps) -> Vec<T> {
    let [_, channels, _] = joined.sizes();
    let joined = joined.into_nhwc();
    let values = joined.f32s();
    let map = |level: &Level| {
        let len = pixels(level) * channels;
        let mut out = vec![0f32; layout.batch * len];
        let from = |image: usize| &values[(image * layout.pixels + level.offset) * channels..][..len];
        copy(out.chunks_mut(len.max(1)).enumerate().map(|(image, to)| (to, from(image))).collect());
        T::from_f32s(out, [layout.batch, level.height, level.width, channels]).from_nhwc()
    };
    layout.levels.iter().map(map).collect()
}

/// Copies each second slice to the first, which has the same length.
fn copy(pieces: Vec<(&mut [f32], &[f32])>) {
    let parts: Vec<_> = pieces.into_iter().flat_map(|(to, from)| to.chunks_mut(GRAIN).zip(from.chunks(GRAIN))).collect();
    parts.into_par_iter().for_each(|(to, from)| to.copy_from_slice(from));
}

/// The autodiff node. Its parents are the maps.
#[derive(Debug)]
struct JoinNode;

impl<B: CpuBackend> Backward<B, MAPS> for JoinNode {
    type State = Maps;

    fn backward(self, ops: Ops<Maps, MAPS>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let each = separated(grads.consume::<B>(&ops.node), &ops.state);
        for (parent, grad) in ops.parents.into_iter().zip(each) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: CpuBackend, C: CheckpointStrategy> JoinOps for Autodiff<B, C> {
    fn join_maps(
        m0: FloatTensor<Self>,
        m1: FloatTensor<Self>,
        m2: FloatTensor<Self>,
        m3: FloatTensor<Self>,
        m4: FloatTensor<Self>,
        m5: FloatTensor<Self>,
        m6: FloatTensor<Self>,
        m7: FloatTensor<Self>,
        maps: Maps,
    ) -> FloatTensor<Self> {
        let tensors = [m0, m1, m2, m3, m4, m5, m6, m7];
        let nodes = tensors.each_ref().map(|map| map.node());
        let [m0, m1, m2, m3, m4, m5, m6, m7] = tensors.map(|map| map.into_primitive());
        let prep = Backward::<B, MAPS>::prepare::<C>(JoinNode, nodes).compute_bound().stateful();
        let joined = B::join_maps(m0, m1, m2, m3, m4, m5, m6, m7, maps.clone());
        match prep {
            OpsKind::Tracked(prep) => prep.finish(maps, joined),
            OpsKind::UnTracked(prep) => prep.finish(joined),
        }
    }
}
