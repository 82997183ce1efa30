//! Group normalisation, fused with an activation.
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::affine::Activation;
use crate::cpu::{CpuBackend, CpuTensor};
use crate::parallel::{GRAIN, map_planes, sum, sum_by};
use crate::relu::rectified;
use crate::route::own_kernel;
use crate::statistics::{Statistics, gated_sums};

/// Normalises each image's groups of channels by their mean and variance, scales by `weight`, shifts by `bias`, and
/// applies the activation (Wu & He, arXiv 1803.08494). Gradients go to all three tensors.
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
    assert!(groups > 0 && channels % groups == 0, "group norm: {channels} channels in {groups} groups");
    assert_eq!([weight.dims(), bias.dims()], [[channels]; 2], "group norm: weight and bias of {channels} channels");
    if !own_kernel(&x) {
        let flat = x.reshape([batch, groups, channels / groups * height * width]);
        let centred = flat.clone() - flat.mean_dim(2);
        let var = centred.clone().square().mean_dim(2);
        let normal = (centred / (var + eps).sqrt()).reshape([batch, channels, height, width]);
        let by_channel = |t: Tensor<1>| t.reshape([1, channels, 1, 1]);
        return activation.plain(normal * by_channel(weight) + by_channel(bias));
    }
    Tensor::from_dispatch(<Dispatch as GroupNormOps>::group_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        GroupNorm { groups, eps, activation },
    ))
}

/// What a group norm does.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm {
    groups: usize,
    eps: f64,
    activation: Activation,
}

/// Group norms that the CPU backends compute themselves.
#[backend_extension(NdArray, Flex, Autodiff)]
pub trait GroupNormOps: Backend {
    /// See [`group_norm`].
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
        let statistics = statistics(&x, config);
        forward(x, &statistics, &weight.contiguous(), &bias.contiguous(), config)
    }
}

/// Of every image's groups, in order `[batch, groups]`.
fn statistics<T: CpuTensor>(x: &T, config: GroupNorm) -> Vec<Statistics> {
    let values = x.f32s();
    let len = group_len(x, config).max(1);
    values
        .par_chunks(len)
        .with_min_len(GRAIN.div_ceil(len))
        .map(|group| {
            let mean = sum(group) / len as f64;
            let centre = mean as f32;
            let var = sum_by(group, |x| (x - centre) * (x - centre)) / len as f64;
            Statistics::new(centre, var, config.eps)
        })
        .collect()
}

fn group_len<T: CpuTensor>(x: &T, config: GroupNorm) -> usize {
    let [_, channels, height, width] = x.sizes();
    channels / config.groups * height * width
}

fn forward<T: CpuTensor>(x: T, statistics: &[Statistics], weight: &T, bias: &T, config: GroupNorm) -> T {
    let [_, channels, height, width] = x.sizes();
    let (weight, bias, in_group) = (weight.f32s(), bias.f32s(), channels / config.groups);
    map_planes(x, height * width, |i, values| {
        let (s, w, b) = (statistics[i / in_group], weight[i % channels], bias[i % channels]);
        match config.activation {
            Activation::None => values.iter_mut().for_each(|v| *v = s.normal(*v) * w + b),
            Activation::Relu => values.iter_mut().for_each(|v| *v = rectified(s.normal(*v) * w + b)),
        }
    })
}

/// Gradients to input, weight and bias.
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
    config: GroupNorm,
) -> Grads<T> {
    let [_, channels, height, width] = x.sizes();
    let (plane, in_group) = (height * width, channels / config.groups);
    let (values, w, b) = (x.f32s(), weight.f32s(), bias.f32s());
    // the gradient before the activation; the very expression of `forward`, so that both see the same sign
    let gate = |g: f32, normal: f32, c: usize| match config.activation {
        Activation::Relu if normal * w[c] + b[c] <= 0.0 => 0.0,
        _ => g,
    };
    let grad = grad.contiguous();
    // of each image's channel: sum of g and of g * normalised x
    let sums: Vec<[f64; 2]> = grad
        .f32s()
        .par_chunks(plane.max(1))
        .with_min_len(GRAIN.div_ceil(plane.max(1)))
        .enumerate()
        .map(|(i, g)| {
            let (s, c) = (statistics[i / in_group], i % channels);
            gated_sums(g, &values[i * plane..][..plane], |g, x| (gate(g, s.normal(x), c), s.normal(x)))
        })
        .collect();
    let by_channel = |k: usize| -> Vec<f32> {
        (0..channels).map(|c| sums.iter().skip(c).step_by(channels).map(|s| s[k]).sum::<f64>() as f32).collect()
    };
    let (weight_grad, bias_grad) = (by_channel(1), by_channel(0));
    // dx = scale * (w g - mean(w g) - normal * mean(w g normal)), means over the group
    let n = (in_group * plane) as f64;
    let means: Vec<[f32; 2]> = sums
        .chunks(in_group)
        .enumerate()
        .map(|(i, group)| {
            let first = i % config.groups * in_group;
            let mean = |k: usize| {
                let weighted = group.iter().zip(&w[first..]).map(|(s, w)| s[k] * f64::from(*w));
                (weighted.sum::<f64>() / n) as f32
            };
            [mean(0), mean(1)]
        })
        .collect();
    let dx = map_planes(grad, plane, |i, g| {
        let (s, c, [m0, m1]) = (statistics[i / in_group], i % channels, means[i / in_group]);
        for (g, x) in g.iter_mut().zip(&values[i * plane..][..plane]) {
            let normal = s.normal(*x);
            *g = s.scale * (gate(*g, normal, c) * w[c] - m0 - normal * m1);
        }
    });
    Grads { x: dx, weight: T::from_f32s(weight_grad, [channels]), bias: T::from_f32s(bias_grad, [channels]) }
}

/// The autodiff node; parents are input, weight and bias.
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
        let all = backward(grad, &x, &statistics, &weight, &bias, config);
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
                let statistics = statistics(&x, config);
                let y = forward(x, &statistics, &weight, &bias, config);
                prep.finish(Saved { x: saved_x, statistics, weight, bias, config }, y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::group_norm(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), config))
            }
        }
    }
}
