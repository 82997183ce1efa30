//! Group normalisation, fused with an activation.
use std::ops::Range;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::cpu::parallel::{GRAIN, map_planes, sum, sum_by};
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

    /// For each map of a channel: its index and the range of its elements.
    fn parts(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let range = |l: &Level| l.offset..l.offset + l.height * l.width;
        self.maps.levels.iter().map(range).enumerate()
    }

    /// The index of the statistics of map `level` in plane `i`, where `i` is `image * channels + channel`.
    fn at(&self, i: usize, level: usize) -> usize {
        i / self.in_group() * self.maps.levels.len() + level
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
        let x = x.contiguous();
        let statistics = statistics(&x, &config);
        forward(x, &statistics, &weight.contiguous(), &bias.contiguous(), &config)
    }
}

/// Mean and standard deviation of every group of every image and map, in the order `[batch, groups, maps]`.
fn statistics<T: CpuTensor>(x: &T, config: &GroupNorm) -> Vec<Statistics> {
    let (values, pixels, in_group) = (x.f32s(), config.maps.pixels, config.in_group());
    let of_group = |group: usize| {
        config.parts().map(move |(_, part)| {
            let planes = || (0..in_group).map(|c| &values[(group * in_group + c) * pixels..][part.clone()]);
            let count = (in_group * part.len()).max(1) as f64;
            let mean = planes().map(sum).sum::<f64>() / count;
            let centre = mean as f32;
            let var = planes().map(|p| sum_by(p, |x| (x - centre) * (x - centre))).sum::<f64>() / count;
            Statistics::new(centre, var, config.eps)
        })
    };
    (0..config.maps.batch * config.groups)
        .into_par_iter()
        .with_min_len(GRAIN.div_ceil((in_group * pixels).max(1)))
        .flat_map_iter(of_group)
        .collect()
}

fn forward<T: CpuTensor>(x: T, statistics: &[Statistics], weight: &T, bias: &T, config: &GroupNorm) -> T {
    let (weight, bias, channels) = (weight.f32s(), bias.f32s(), config.channels);
    map_planes(x, config.maps.pixels, |i, values| {
        let (w, b) = (weight[i % channels], bias[i % channels]);
        for (level, part) in config.parts() {
            let s = statistics[config.at(i, level)];
            match config.activation {
                Activation::None => values[part].iter_mut().for_each(|v| *v = s.normal(*v) * w + b),
                Activation::Relu => values[part].iter_mut().for_each(|v| *v = relu(s.normal(*v) * w + b)),
            }
        }
    })
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
    let (channels, plane, in_group, maps) =
        (config.channels, config.maps.pixels, config.in_group(), config.maps.levels.len());
    let (values, w, b) = (x.f32s(), weight.f32s(), bias.f32s());
    // The gradient before the activation. The expression is exactly that of `forward`, so that the signs agree.
    let gate = |g: f32, normal: f32, c: usize| match config.activation {
        Activation::Relu if normal * w[c] + b[c] <= 0.0 => 0.0,
        _ => g,
    };
    let grad = grad.contiguous();
    // For each map of each channel of each image: the sum of g and the sum of g * normalised x.
    let sums: Vec<[f64; 2]> = grad
        .f32s()
        .par_chunks(plane.max(1))
        .with_min_len(GRAIN.div_ceil(plane.max(1)))
        .enumerate()
        .flat_map_iter(|(i, g)| {
            config.parts().map(move |(level, part)| {
                let (s, c) = (statistics[config.at(i, level)], i % channels);
                let x = &values[i * plane..][part.clone()];
                gated_sums(&g[part], x, |g, x| (gate(g, s.normal(x), c), s.normal(x)))
            })
        })
        .collect();
    let by_channel = |k: usize| -> Vec<f32> {
        let of =
            |c: usize| (0..config.maps.batch).flat_map(move |i| (0..maps).map(move |l| (i * channels + c) * maps + l));
        (0..channels).map(|c| of(c).map(|at| sums[at][k]).sum::<f64>() as f32).collect()
    };
    let (weight_grad, bias_grad) = (by_channel(1), by_channel(0));
    // dx = scale * (w g - mean(w g) - normal * mean(w g normal)), with means over the group's map.
    let mut means = vec![[0f32; 2]; statistics.len()];
    for (level, part) in config.parts() {
        let n = (in_group * part.len()) as f64;
        for group in 0..config.maps.batch * config.groups {
            let mean = |k: usize| {
                let weighted = (group * in_group..(group + 1) * in_group)
                    .map(|i| sums[i * maps + level][k] * f64::from(w[i % channels]));
                (weighted.sum::<f64>() / n) as f32
            };
            means[group * maps + level] = [mean(0), mean(1)];
        }
    }
    let dx = map_planes(grad, plane, |i, g| {
        let c = i % channels;
        for (level, part) in config.parts() {
            let at = config.at(i, level);
            let (s, [m0, m1]) = (statistics[at], means[at]);
            for (g, x) in g[part.clone()].iter_mut().zip(&values[i * plane..][part]) {
                let normal = s.normal(*x);
                *g = s.scale * (gate(*g, normal, c) * w[c] - m0 - normal * m1);
            }
        }
    });
    Grads { x: dx, weight: T::from_f32s(weight_grad, [channels]), bias: T::from_f32s(bias_grad, [channels]) }
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
                let statistics = statistics(&x, &config);
                let y = forward(x, &statistics, &weight, &bias, &config);
                prep.finish(Saved { x: saved_x, statistics, weight, bias, config }, y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::group_norm(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), config))
            }
        }
    }
}
