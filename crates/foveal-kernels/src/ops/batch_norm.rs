//! Batch normalisation with the statistics of the batch, as in training.
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::cpu::parallel::{GRAIN, map_planes, sum, sum_by};
use crate::cpu::route::fused_kernel;
use crate::cpu::statistics::{Statistics, gated_sums};
use crate::cpu::{CpuBackend, CpuTensor};
use crate::ops::half::{at_least_f32, cast_to};

/// Result of [`batch_norm_train`]: the normalised tensor and the statistics of the batch.
#[derive(Clone, Debug)]
pub struct BatchNormOutput {
    /// Normalised, scaled and shifted input, `[batch, channels, height, width]`.
    pub y: Tensor<4>,
    /// Mean of the batch for each channel, `[channels]`. Carries no gradient.
    pub mean: Tensor<1>,
    /// Variance of the batch for each channel, `[channels]`, biased (divided by the number of values, not by one less).
    /// Carries no gradient.
    pub var: Tensor<1>,
}

/// Normalises each channel by its mean and variance over the batch, then scales by `weight` and shifts by `bias` (Ioffe
/// & Szegedy, arXiv 1502.03167, algorithm 1). `eps` is added to the variance. `x`, `weight` and `bias` receive
/// gradients.
///
/// # Shapes
/// `x` and the result's `y` `[batch, channels, height, width]`; `weight`, `bias` and the result's `mean` and `var`
/// `[channels]`.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn batch_norm_train(x: Tensor<4>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> BatchNormOutput {
    let channels = x.dims()[1];
    assert_eq!(
        [weight.dims(), bias.dims()],
        [[channels]; 2],
        "batch norm: weight and bias must have {channels} channels"
    );
    if fused_kernel(&x) {
        let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
        let (y, mean, var) = <Dispatch as BatchNormOps>::normalise_batch(x, weight, bias, eps);
        let [mean, var] = [mean, var].map(Tensor::from_dispatch);
        return BatchNormOutput { y: Tensor::from_dispatch(y), mean, var };
    }
    reference(x, weight, bias, eps)
}

/// [`batch_norm_train`] in Burn's operations. The statistics and the normalisation are computed in f32 also for 16-bit
/// maps, and the result has the type of `x`.
///
/// Maps of GPU kernels have the channels last in memory. They stay so here: `[rows of all images, width, channels]` are
/// new strides of such a map, not a copy. A sum over the width and one over the rows read the map once.
fn reference(x: Tensor<4>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> BatchNormOutput {
    let ([batch, channels, height, width], dtype) = (x.dims(), x.dtype());
    let x = at_least_f32(x).permute([0, 2, 3, 1]).reshape([batch * height, width, channels]);
    let mean_of = |t: Tensor<3>| t.mean_dim(1).mean_dim(0);
    let by_channel = |t: Tensor<1>| t.reshape([1, 1, channels]);
    let mean = mean_of(x.clone());
    let centred = x - mean.clone();
    let var = mean_of(centred.clone().square());
    let scale = by_channel(weight) / (var.clone() + eps).sqrt();
    let y = cast_to(centred * scale + by_channel(bias), dtype);
    BatchNormOutput {
        y: y.reshape([batch, height, width, channels]).permute([0, 3, 1, 2]),
        mean: mean.detach().reshape([channels]),
        var: var.detach().reshape([channels]),
    }
}

/// Extension of Burn's backends by [`batch_norm_train`], implemented by the CPU backends.
#[backend_extension(NdArray, Flex, Autodiff)]
pub(crate) trait BatchNormOps: Backend {
    /// Computes the normalised input, the mean and the variance of the batch, see [`batch_norm_train`].
    fn normalise_batch(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl<B: CpuBackend> BatchNormOps for B {
    fn normalise_batch(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let x = x.contiguous();
        let batch = statistics(&x, eps);
        let y = forward(x, &batch.statistics, &weight.contiguous(), &bias.contiguous());
        (y, vector(batch.mean), vector(batch.var))
    }
}

fn vector<T: CpuTensor>(values: Vec<f32>) -> T {
    let len = values.len();
    T::from_f32s(values, [len])
}

/// Mean and variance of each channel, and both in the form used for normalisation.
struct BatchStatistics {
    mean: Vec<f32>,
    var: Vec<f32>,
    statistics: Vec<Statistics>,
}

fn statistics<T: CpuTensor>(x: &T, eps: f64) -> BatchStatistics {
    let [batch, channels, height, width] = x.sizes();
    let (values, plane) = (x.f32s(), height * width);
    let count = (batch * plane) as f64;
    let (mean, var): (Vec<f32>, Vec<f64>) = (0..channels)
        .into_par_iter()
        .with_min_len(GRAIN.div_ceil((batch * plane).max(1)))
        .map(|c| {
            let planes = || (0..batch).map(|i| &values[(i * channels + c) * plane..][..plane]);
            let mean = (planes().map(sum).sum::<f64>() / count) as f32;
            (mean, planes().map(|p| sum_by(p, |x| (x - mean) * (x - mean))).sum::<f64>() / count)
        })
        .unzip();
    BatchStatistics {
        statistics: mean.iter().zip(&var).map(|(mean, var)| Statistics::new(*mean, *var, eps)).collect(),
        var: var.into_iter().map(|v| v as f32).collect(),
        mean,
    }
}

fn forward<T: CpuTensor>(x: T, statistics: &[Statistics], weight: &T, bias: &T) -> T {
    let [_, channels, height, width] = x.sizes();
    let (weight, bias) = (weight.f32s(), bias.f32s());
    map_planes(x, height * width, |i, values| {
        let (s, w, b) = (statistics[i % channels], weight[i % channels], bias[i % channels]);
        values.iter_mut().for_each(|v| *v = s.normal(*v) * w + b);
    })
}

/// Gradients of input, weight and bias.
fn backward<T: CpuTensor>(grad: T, x: &T, statistics: &[Statistics], weight: &T) -> [T; 3] {
    let [batch, channels, height, width] = x.sizes();
    let (values, w, plane) = (x.f32s(), weight.f32s(), height * width);
    let grad = grad.contiguous();
    let g = grad.f32s();
    // For each channel: the sum of g and the sum of g * normalised x.
    let sums: Vec<[f64; 2]> = (0..channels)
        .into_par_iter()
        .with_min_len(GRAIN.div_ceil((batch * plane).max(1)))
        .map(|c| {
            let of_plane = |i: usize| {
                let at = (i * channels + c) * plane;
                gated_sums(&g[at..][..plane], &values[at..][..plane], |g, x| (g, statistics[c].normal(x)))
            };
            (0..batch).map(of_plane).fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]])
        })
        .collect();
    // dx = scale * w * (g - mean(g) - normal * mean(g * normal)), means over the batch
    let count = (batch * plane) as f64;
    let dx = map_planes(grad, plane, |i, g| {
        let c = i % channels;
        let (s, [m0, m1]) = (statistics[c], sums[c].map(|s| (s / count) as f32));
        for (g, x) in g.iter_mut().zip(&values[i * plane..][..plane]) {
            *g = s.scale * w[c] * (*g - m0 - s.normal(*x) * m1);
        }
    });
    let of = |k: usize| vector(sums.iter().map(|s| s[k] as f32).collect());
    [dx, of(1), of(0)]
}

/// The autodiff node. Its parents are input, weight and bias.
#[derive(Debug)]
struct BatchNormNode;

#[derive(Clone, Debug)]
struct Saved<T> {
    x: NodeId,
    statistics: Vec<Statistics>,
    weight: T,
}

impl<B: CpuBackend> Backward<B, 3> for BatchNormNode {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(ops.state.x).contiguous();
        let all = backward(grad, &x, &ops.state.statistics, &ops.state.weight);
        for (parent, grad) in ops.parents.into_iter().zip(all) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: CpuBackend, C: CheckpointStrategy> BatchNormOps for Autodiff<B, C> {
    fn normalise_batch(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), weight.node(), bias.node()];
        match Backward::<B, 3>::prepare::<C>(BatchNormNode, nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let saved_x = prep.checkpoint(&x);
                let (x, weight) = (x.into_primitive().contiguous(), weight.into_primitive().contiguous());
                let batch = statistics(&x, eps);
                let y = forward(x, &batch.statistics, &weight, &bias.into_primitive().contiguous());
                let saved = Saved { x: saved_x, statistics: batch.statistics, weight };
                let [mean, var] = [batch.mean, batch.var].map(|v| Self::from_inner(vector(v)));
                (prep.finish(saved, y), mean, var)
            }
            OpsKind::UnTracked(prep) => {
                let (y, mean, var) =
                    B::normalise_batch(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), eps);
                (prep.finish(y), Self::from_inner(mean), Self::from_inner(var))
            }
        }
    }
}
