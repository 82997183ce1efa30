//! Group normalisation, fused with an activation.
use std::ops::Range;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::cpu::matmul::isa::on_best_isa;
use crate::cpu::matmul::lanes::Lanes;
use crate::cpu::parallel::{map_planes_aside, sum, sum_by};
use crate::cpu::route::fused_kernel;
use crate::cpu::statistics::{Statistics, gated_sums};
use crate::cpu::{CpuBackend, CpuTensor};
use crate::ops::conv::{Level, MapSize, Maps};
use crate::ops::elementwise::Activation;
use crate::ops::elementwise::relu;
use crate::ops::half::{at_least_f32, cast_to};

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

/// The result, and the statistics of every group of every image and map, in the order `[batch, groups, maps]`.
fn forward<T: CpuTensor>(x: T, weight: &T, bias: &T, config: &GroupNorm) -> (T, Vec<Statistics>) {
    let maps = config.maps.levels.len();
    let mut statistics = vec![Statistics::default(); config.maps.batch * config.groups * maps];
    let mut of_groups: Vec<_> = statistics.chunks_mut(maps.max(1)).collect();
    let affine = Affine { weight: weight.f32s(), bias: bias.f32s() };
    let y = map_planes_aside(x, config.group_len(), &mut of_groups, |group, values, statistics| {
        // SAFETY: the function has no requirements.
        unsafe { normalise(config, affine, group, values, statistics) }
    });
    (y, statistics)
}

/// Scale and shift of each channel.
#[derive(Clone, Copy)]
struct Affine<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
}

on_best_isa! {
    /// Normalises the values of the group `group` (`image * groups + group of channels`), applies scale, shift and
    /// activation, and writes the statistics of each map.
    ///
    /// # Safety
    /// There are no requirements.
    unsafe fn normalise(
        config: &GroupNorm, affine: Affine<'_>, group: usize, values: &mut [f32], statistics: &mut [Statistics],
    ) = normalise_on
}

#[inline(always)]
unsafe fn normalise_on<L: Lanes, const V: usize, const WIDE: usize>(
    config: &GroupNorm,
    affine: Affine<'_>,
    group: usize,
    values: &mut [f32],
    statistics: &mut [Statistics],
) {
    for (part, to) in config.parts().zip(statistics.iter_mut()) {
        let planes = || values.chunks_exact(config.maps.pixels).map(|plane| &plane[part.clone()]);
        let count = (config.in_group() * part.len()).max(1) as f64;
        let mean = planes().map(sum).sum::<f64>() / count;
        let centre = mean as f32;
        let var = planes().map(|p| sum_by(p, |x| (x - centre) * (x - centre))).sum::<f64>() / count;
        *to = Statistics::new(centre, var, config.eps);
    }
    for (channel, values) in config.channels_of(group).zip(values.chunks_exact_mut(config.maps.pixels)) {
        let (w, b) = (affine.weight[channel], affine.bias[channel]);
        for (part, s) in config.parts().zip(statistics.iter()) {
            match config.activation {
                Activation::None => values[part].iter_mut().for_each(|v| *v = s.normal(*v) * w + b),
                Activation::Relu => values[part].iter_mut().for_each(|v| *v = relu(s.normal(*v) * w + b)),
            }
        }
    }
}

/// Gradients of input, weight and bias.
struct Grads<T> {
    x: T,
    weight: T,
    bias: T,
}

fn backward<T: CpuTensor>(
    grad: T,
    x: &T,
    statistics: &[Statistics],
    weight: &T,
    bias: &T,
    config: &GroupNorm,
) -> Grads<T> {
    let (batch, channels, maps) = (config.maps.batch, config.channels, config.maps.levels.len());
    let (values, group_len) = (x.f32s(), config.group_len());
    let affine = Affine { weight: weight.f32s(), bias: bias.f32s() };
    // For each map of each channel of each image: the sum of g and the sum of g * normalised x.
    let mut sums = vec![[0f64; 2]; batch * channels * maps];
    let mut of_groups: Vec<_> = sums.chunks_mut((config.in_group() * maps).max(1)).collect();
    let dx = map_planes_aside(grad, group_len, &mut of_groups, |group, grad, sums| {
        let x = &values[group * group_len..][..group_len];
        let forward = Forward { x, statistics: &statistics[group * maps..][..maps], affine };
        // SAFETY: the function has no requirements.
        unsafe { through_group(config, forward, group, grad, sums) }
    });
    let by_channel = |k: usize| -> Vec<f32> {
        let of = |c: usize| (0..batch).flat_map(move |i| (0..maps).map(move |l| (i * channels + c) * maps + l));
        (0..channels).map(|c| of(c).map(|at| sums[at][k]).sum::<f64>() as f32).collect()
    };
    let (weight_grad, bias_grad) = (by_channel(1), by_channel(0));
    Grads { x: dx, weight: T::from_f32s(weight_grad, [channels]), bias: T::from_f32s(bias_grad, [channels]) }
}

/// Input, statistics and scales of a group in the forward pass.
#[derive(Clone, Copy)]
struct Forward<'a> {
    x: &'a [f32],
    /// Of each map.
    statistics: &'a [Statistics],
    affine: Affine<'a>,
}

on_best_isa! {
    /// Turns the gradient of the values of a group into the gradient of its input. Writes for each map of each channel
    /// the sum of the gradient before the activation, and the sum of its products with the normalised input.
    ///
    /// # Safety
    /// There are no requirements.
    unsafe fn through_group(
        config: &GroupNorm, forward: Forward<'_>, group: usize, grad: &mut [f32], sums: &mut [[f64; 2]],
    ) = through_group_on
}

#[inline(always)]
unsafe fn through_group_on<L: Lanes, const V: usize, const WIDE: usize>(
    config: &GroupNorm,
    Forward { x, statistics, affine }: Forward<'_>,
    group: usize,
    grad: &mut [f32],
    sums: &mut [[f64; 2]],
) {
    // The gradient before a ReLU. The expression is exactly that of `normalise`, so that the signs agree.
    let gate = |g: f32, normal: f32, w: f32, b: f32| if normal * w + b <= 0.0 { 0.0 } else { g };
    let (pixels, maps, in_group) = (config.maps.pixels, config.maps.levels.len(), config.in_group());
    for (k, channel) in config.channels_of(group).enumerate() {
        let (w, b) = (affine.weight[channel], affine.bias[channel]);
        for (level, (part, s)) in config.parts().zip(statistics).enumerate() {
            let (g, x) = (&grad[k * pixels..][part.clone()], &x[k * pixels..][part]);
            sums[k * maps + level] = match config.activation {
                Activation::None => gated_sums(g, x, |g, x| (g, s.normal(x))),
                Activation::Relu => gated_sums(g, x, |g, x| (gate(g, s.normal(x), w, b), s.normal(x))),
            };
        }
    }
    // dx = scale * (w g - mean(w g) - normal * mean(w g normal)), with means over the group's map.
    for (level, (part, s)) in config.parts().zip(statistics).enumerate() {
        let n = (in_group * part.len()) as f64;
        let mean = |which: usize| {
            let weighted = config
                .channels_of(group)
                .enumerate()
                .map(|(k, channel)| sums[k * maps + level][which] * f64::from(affine.weight[channel]));
            (weighted.sum::<f64>() / n) as f32
        };
        let [m0, m1] = [mean(0), mean(1)];
        for (k, channel) in config.channels_of(group).enumerate() {
            let (w, b) = (affine.weight[channel], affine.bias[channel]);
            let through = |g: f32, normal: f32| s.scale * (g * w - m0 - normal * m1);
            let pairs = grad[k * pixels..][part.clone()].iter_mut().zip(&x[k * pixels..][part.clone()]);
            match config.activation {
                Activation::None => pairs.for_each(|(g, x)| *g = through(*g, s.normal(*x))),
                Activation::Relu => pairs.for_each(|(g, x)| {
                    let normal = s.normal(*x);
                    *g = through(gate(*g, normal, w, b), normal);
                }),
            }
        }
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
