//! Group normalisation, fused with an activation.
use std::ops::Range;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::cpu::pixels::{channel_sums, map_pixels};
use crate::cpu::route::fused_kernel;
use crate::cpu::statistics::Statistics;
use crate::cpu::{CpuBackend, CpuTensor};
use crate::ops::conv::{MapSize, Maps};
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

    /// For each map of each image, the range of its pixels, counted over all images: image 0 with all its maps first.
    fn parts(&self) -> Vec<Range<usize>> {
        let maps = &self.maps;
        let of_image = |image: usize| {
            maps.levels.iter().map(move |l| {
                let start = image * maps.pixels + l.offset;
                start..start + l.height * l.width
            })
        };
        (0..maps.batch).flat_map(of_image).collect()
    }

    /// The index in [`parts`](Self::parts) of the map that contains a pixel.
    fn part_of(&self, pixel: usize) -> usize {
        let (image, at) = (pixel / self.maps.pixels, pixel % self.maps.pixels);
        let levels = &self.maps.levels;
        image * levels.len() + levels.partition_point(|l| l.offset + l.height * l.width <= at)
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
        let x = x.into_nhwc();
        let statistics = statistics(&x, &config);
        forward(x, &statistics, &weight.contiguous(), &bias.contiguous(), &config).from_nhwc()
    }
}

/// Mean and standard deviation of every channel's group, `[images, maps, channels]`.
fn statistics<T: CpuTensor>(x: &T, config: &GroupNorm) -> Vec<Statistics> {
    let (values, channels, in_group) = (x.f32s(), config.channels, config.in_group());
    let mut all = Vec::with_capacity(config.maps.batch * config.maps.levels.len() * channels);
    for part in config.parts() {
        let count = (in_group * part.len()).max(1) as f64;
        let [sums] = channel_sums(part.clone(), channels, |run, [sums]| {
            for pixel in values[run.start * channels..run.end * channels].chunks_exact(channels) {
                sums.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += v);
            }
        });
        let mean: Vec<f32> = sums
            .chunks_exact(in_group)
            .flat_map(|group| vec![(group.iter().sum::<f64>() / count) as f32; in_group])
            .collect();
        let [squares] = channel_sums(part, channels, |run, [sums]| {
            for pixel in values[run.start * channels..run.end * channels].chunks_exact(channels) {
                let of = pixel.iter().zip(&mean);
                sums.iter_mut().zip(of).for_each(|(sum, (v, mean))| *sum += (v - mean) * (v - mean));
            }
        });
        for (group, mean) in squares.chunks_exact(in_group).zip(mean.chunks_exact(in_group)) {
            let s = Statistics::new(mean[0], group.iter().sum::<f64>() / count, config.eps);
            all.extend(std::iter::repeat_n(s, in_group));
        }
    }
    all
}

/// The normalised input `[batch, pixels, channels]`.
fn forward<T: CpuTensor>(x: T, statistics: &[Statistics], weight: &T, bias: &T, config: &GroupNorm) -> T {
    let (weight, bias, channels) = (weight.f32s(), bias.f32s(), config.channels);
    map_pixels(x, |at, values| {
        for (i, pixel) in values.chunks_exact_mut(channels).enumerate() {
            let statistics = &statistics[config.part_of(at / channels + i) * channels..];
            let by_channel = statistics.iter().zip(weight.iter().zip(bias));
            pixel.iter_mut().zip(by_channel).for_each(|(v, (s, (w, b)))| *v = s.normal(*v) * w + b);
            if config.activation == Activation::Relu {
                pixel.iter_mut().for_each(|v| *v = relu(*v));
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

/// `grad` and `x` have the channels last, and so has the gradient of the input.
fn backward<T: CpuTensor>(
    grad: T,
    x: &T,
    statistics: &[Statistics],
    weight: &T,
    bias: &T,
    config: &GroupNorm,
) -> Grads<T> {
    let (channels, in_group) = (config.channels, config.in_group());
    let (values, w, b) = (x.f32s(), weight.f32s(), bias.f32s());
    let is_relu = config.activation == Activation::Relu;
    // The gradient before the activation. The expression is exactly that of `forward`, so that the signs agree.
    let gate = |g: f32, normal: f32, w: f32, b: f32| if is_relu && normal * w + b <= 0.0 { 0.0 } else { g };
    let g = grad.f32s();
    let (mut weight_grad, mut bias_grad) = (vec![0f64; channels], vec![0f64; channels]);
    // For each channel of each map of each image: the means over its group of w * g and of w * g * normalised x.
    let mut means: Vec<[f32; 2]> = Vec::with_capacity(statistics.len());
    for (part, statistics) in config.parts().into_iter().zip(statistics.chunks_exact(channels)) {
        let n = (in_group * part.len()) as f64;
        let sums = channel_sums::<2>(part, channels, |run, [plain, times]| {
            let range = run.start * channels..run.end * channels;
            for (g, x) in g[range.clone()].chunks_exact(channels).zip(values[range].chunks_exact(channels)) {
                let by_channel = statistics.iter().zip(w.iter().zip(b));
                let sums = plain.iter_mut().zip(times.iter_mut());
                for ((plain, times), ((g, x), (s, (w, b)))) in sums.zip(g.iter().zip(x).zip(by_channel)) {
                    let normal = s.normal(*x);
                    let g = gate(*g, normal, *w, *b);
                    *plain += g;
                    *times += g * normal;
                }
            }
        });
        bias_grad.iter_mut().zip(&sums[0]).for_each(|(total, sum)| *total += sum);
        weight_grad.iter_mut().zip(&sums[1]).for_each(|(total, sum)| *total += sum);
        for first in (0..channels).step_by(in_group) {
            let mean =
                |k: usize| ((first..first + in_group).map(|c| sums[k][c] * f64::from(w[c])).sum::<f64>() / n) as f32;
            means.extend(std::iter::repeat_n([mean(0), mean(1)], in_group));
        }
    }
    // dx = scale * (w g - mean(w g) - normal * mean(w g normal)), with means over the group's map.
    let dx = map_pixels(grad, |at, g| {
        for (i, (g, x)) in g.chunks_exact_mut(channels).zip(values[at..].chunks_exact(channels)).enumerate() {
            let first = config.part_of(at / channels + i) * channels;
            let by_channel = statistics[first..].iter().zip(&means[first..]).zip(w.iter().zip(b));
            for ((g, x), ((s, [m0, m1]), (w, b))) in g.iter_mut().zip(x).zip(by_channel) {
                let normal = s.normal(*x);
                *g = s.scale * (gate(*g, normal, *w, *b) * w - m0 - normal * m1);
            }
        }
    });
    let vector = |sums: Vec<f64>| T::from_f32s(sums.into_iter().map(|sum| sum as f32).collect(), [channels]);
    Grads { x: dx.from_nhwc(), weight: vector(weight_grad), bias: vector(bias_grad) }
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
        let grad = grads.consume::<B>(&ops.node).into_nhwc();
        let Saved { x, statistics, weight, bias, config } = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x).into_nhwc();
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
                    x.into_primitive().into_nhwc(),
                    weight.into_primitive().contiguous(),
                    bias.into_primitive().contiguous(),
                );
                let statistics = statistics(&x, &config);
                let y = forward(x, &statistics, &weight, &bias, &config).from_nhwc();
                prep.finish(Saved { x: saved_x, statistics, weight, bias, config }, y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::group_norm(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), config))
            }
        }
    }
}
