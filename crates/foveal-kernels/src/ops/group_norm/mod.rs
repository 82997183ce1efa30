//! Group normalisation, fused with an activation.
mod kernel;

use std::ops::Range;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::cpu::route::fused_kernel;
use crate::cpu::statistics::Statistics;
use crate::cpu::{CpuBackend, CpuTensor};
use crate::ops::conv::{Level, MapSize, Maps};
use crate::ops::elementwise::Activation;
use crate::ops::half::{at_least_f32, cast_to};
use kernel::{backward, forward};

/// Normalises each group of channels of each image by its mean and variance, scales by `weight`, shifts by `bias`, and
/// applies the activation (Wu & He, arXiv 1803.08494). `eps` is added to the variance. `x`, `weight` and `bias` receive
/// gradients.
///
/// # Shapes
/// `x` and the result `[batch, channels, height, width]`, `weight` and `bias` `[channels]`.
///
/// # Panics
/// If `groups` does not divide the channels or the shapes do not fit each other.
pub fn group_norm(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
    eps: f64,
    activation: Activation,
) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    check(channels, groups, &weight, &bias);
    if !fused_kernel(&x) {
        return reference(x, weight, bias, groups, eps, activation);
    }
    let maps = Maps::new(batch, &[MapSize { height, width }]);
    fused(x, weight, bias, GroupNorm { channels, groups, eps, activation, maps })
}

/// [`group_norm`] in Burn's operations. The statistics and the normalisation are computed in f32 also for 16-bit maps,
/// and the result has the type of `x`.
///
/// Maps of GPU kernels have the channels last in memory. They stay so here: all reductions are over whole axes of
/// `[batch, height, width, groups, channels of the group]`, which are new strides of such a map, not a copy.
fn reference(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
    eps: f64,
    activation: Activation,
) -> Tensor<4> {
    let ([batch, channels, height, width], dtype) = (x.dims(), x.dtype());
    let in_group = channels / groups;
    let x = at_least_f32(x).permute([0, 2, 3, 1]).reshape([batch, height, width, groups, in_group]);
    let mean_of = |t: Tensor<5>| t.mean_dim(2).mean_dim(1).mean_dim(4);
    let by_channel = |t: Tensor<1>| t.reshape([1, 1, 1, groups, in_group]);
    let centred = x.clone() - mean_of(x);
    let var = mean_of(centred.clone().square());
    let y = centred * (by_channel(weight) / (var + eps).sqrt()) + by_channel(bias);
    cast_to(activation.reference(y), dtype).reshape([batch, height, width, channels]).permute([0, 3, 1, 2])
}

/// Group normalisation (Wu & He, arXiv 1803.08494) of several feature maps stored in one tensor: each group of channels
/// of each map is normalised by its mean and variance, scaled by `weight` and shifted by `bias`; then the activation is
/// applied. `eps` is added to the variance. `x`, `weight` and `bias` receive gradients.
///
/// # Shapes
/// `x` and the result `[batch, channels, pixels]`: each channel holds the maps of `sizes`, row by row, one after the
/// other; `weight` and `bias` `[channels]`.
///
/// # Panics
/// If `groups` does not divide the channels or the shapes do not fit each other.
pub fn group_norm_maps(
    x: Tensor<3>,
    sizes: &[MapSize],
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
    eps: f64,
    activation: Activation,
) -> Tensor<3> {
    let [batch, channels, pixels] = x.dims();
    check(channels, groups, &weight, &bias);
    let maps = Maps::new(batch, sizes);
    assert_eq!(maps.pixels, pixels, "group norm: the maps' sizes {sizes:?} do not make up {pixels} pixels");
    if !fused_kernel(&x) {
        let each = maps.levels.iter().map(|level| {
            let map = x.clone().narrow(2, level.offset, level.height * level.width);
            let map = map.reshape([batch, channels, level.height, level.width]);
            group_norm(map, weight.clone(), bias.clone(), groups, eps, activation).flatten(2, 3)
        });
        return Tensor::cat(each.collect(), 2);
    }
    fused(x, weight, bias, GroupNorm { channels, groups, eps, activation, maps })
}

fn check(channels: usize, groups: usize, weight: &Tensor<1>, bias: &Tensor<1>) {
    assert!(
        groups > 0 && channels.is_multiple_of(groups),
        "group norm: {groups} groups do not divide {channels} channels"
    );
    assert_eq!(
        [weight.dims(), bias.dims()],
        [[channels]; 2],
        "group norm: weight and bias must have {channels} channels"
    );
}

fn fused<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, config: GroupNorm) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as GroupNormOps>::group_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        config,
    ))
}

/// Sizes, constants and activation of a group norm, as the fused kernel needs them.
#[derive(Clone, Debug)]
pub(crate) struct GroupNorm {
    channels: usize,
    groups: usize,
    eps: f64,
    activation: Activation,
    maps: Maps,
}

impl GroupNorm {
    fn in_group(&self) -> usize {
        self.channels / self.groups
    }

    /// Number of values of a group of an image.
    fn group_len(&self) -> usize {
        self.in_group() * self.maps.pixels
    }

    /// The channels of the group `group`, which is `image * groups + group of channels`.
    fn channels_of(&self, group: usize) -> Range<usize> {
        let first = group % self.groups * self.in_group();
        first..first + self.in_group()
    }

    /// The range of the elements of each map in a channel.
    fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        self.maps.levels.iter().map(|l: &Level| l.offset..l.offset + l.height * l.width)
    }
}

/// Extension of Burn's backends by [`group_norm`] and [`group_norm_maps`], implemented by the CPU backends.
#[backend_extension(NdArray, Flex, Autodiff)]
pub(crate) trait GroupNormOps: Backend {
    /// Computes [`group_norm`] or [`group_norm_maps`] with the sizes and constants of `config`.
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        config: GroupNorm,
    ) -> FloatTensor<Self>;
}

impl<B: CpuBackend> GroupNormOps for B {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        config: GroupNorm,
    ) -> FloatTensor<Self> {
        forward(x, &weight.contiguous(), &bias.contiguous(), &config).0
    }
}

/// The autodiff node. Its parents are input, weight and bias.
#[derive(Debug)]
struct GroupNormNode;

#[derive(Clone, Debug)]
struct Saved<T> {
    x: NodeId,
    statistics: Vec<Statistics>,
    weight: T,
    bias: T,
    config: GroupNorm,
}

impl<B: CpuBackend> Backward<B, 3> for GroupNormNode {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let Saved { x, statistics, weight, bias, config } = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x).contiguous();
        let all = backward(grad, &x, &statistics, &weight, &bias, &config);
        for (parent, grad) in ops.parents.into_iter().zip([all.x, all.weight, all.bias]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: CpuBackend, C: CheckpointStrategy> GroupNormOps for Autodiff<B, C> {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        config: GroupNorm,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        match Backward::<B, 3>::prepare::<C>(GroupNormNode, nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let saved_x = prep.checkpoint(&x);
                let (x, weight, bias) = (
                    x.into_primitive().contiguous(),
                    weight.into_primitive().contiguous(),
                    bias.into_primitive().contiguous(),
                );
                let (y, statistics) = forward(x, &weight, &bias, &config);
                prep.finish(Saved { x: saved_x, statistics, weight, bias, config }, y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::group_norm(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), config))
            }
        }
    }
}
