//! Batch normalisation with the statistics of the batch, as in training.
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::cpu::pixels::{channel_sums, channels_of, map_pixels};
use crate::cpu::route::fused_kernel;
use crate::cpu::statistics::Statistics;
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
        let x = x.into_nhwc();
        let batch = statistics(&x, eps);
        let y = forward(x, &batch.statistics, &weight.contiguous(), &bias.contiguous());
        (y.from_nhwc(), vector(batch.mean), vector(batch.var))
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

/// The statistics of `x [batch, height, width, channels]`.
fn statistics<T: CpuTensor>(x: &T, eps: f64) -> BatchStatistics {
    let (values, channels) = (x.f32s(), channels_of(x));
    let pixels = values.len() / channels.max(1);
    let count = pixels as f64;
    let [sums] = channel_sums(0..pixels, channels, |run, [sums]| {
        for pixel in values[run.start * channels..run.end * channels].chunks_exact(channels) {
            sums.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += v);
        }
    });
    let mean: Vec<f32> = sums.into_iter().map(|sum| (sum / count) as f32).collect();
    let [squares] = channel_sums(0..pixels, channels, |run, [sums]| {
        for pixel in values[run.start * channels..run.end * channels].chunks_exact(channels) {
            sums.iter_mut().zip(pixel.iter().zip(&mean)).for_each(|(sum, (v, mean))| *sum += (v - mean) * (v - mean));
        }
    });
    let var = squares.into_iter().map(|square| square / count);
    BatchStatistics {
        statistics: mean.iter().zip(var.clone()).map(|(mean, var)| Statistics::new(*mean, var, eps)).collect(),
        var: var.map(|v| v as f32).collect(),
        mean,
    }
}

/// The normalised input `[batch, height, width, channels]`.
fn forward<T: CpuTensor>(x: T, statistics: &[Statistics], weight: &T, bias: &T) -> T {
    let (weight, bias) = (weight.f32s(), bias.f32s());
    map_pixels(x, |_, values| {
        for pixel in values.chunks_exact_mut(statistics.len()) {
            let by_channel = statistics.iter().zip(weight.iter().zip(bias));
            pixel.iter_mut().zip(by_channel).for_each(|(v, (s, (w, b)))| *v = s.normal(*v) * w + b);
        }
    })
}

/// Gradients of input, weight and bias; `grad` and `x` have the channels last, and so has the gradient of the input.
fn backward<T: CpuTensor>(grad: T, x: &T, statistics: &[Statistics], weight: &T) -> [T; 3] {
    let (values, w, channels) = (x.f32s(), weight.f32s(), statistics.len());
    let pixels = values.len() / channels.max(1);
    let g = grad.f32s();
    // For each channel: the sum of g and the sum of g * normalised x.
    let sums = channel_sums::<2>(0..pixels, channels, |run, [plain, normal]| {
        let range = run.start * channels..run.end * channels;
        for (g, x) in g[range.clone()].chunks_exact(channels).zip(values[range].chunks_exact(channels)) {
            plain.iter_mut().zip(g).for_each(|(sum, g)| *sum += g);
            let of = g.iter().zip(x.iter().zip(statistics));
            normal.iter_mut().zip(of).for_each(|(sum, (g, (x, s)))| *sum += g * s.normal(*x));
        }
    });
    // dx = scale * w * (g - mean(g) - normal * mean(g * normal)), means over the batch
    let count = pixels as f64;
    let means: Vec<[f32; 2]> = (0..channels).map(|c| [sums[0][c], sums[1][c]].map(|s| (s / count) as f32)).collect();
    let dx = map_pixels(grad, |at, g| {
        for (g, x) in g.chunks_exact_mut(channels).zip(values[at..].chunks_exact(channels)) {
            for ((g, x), (s, (w, [m0, m1]))) in g.iter_mut().zip(x).zip(statistics.iter().zip(w.iter().zip(&means))) {
                *g = s.scale * w * (*g - m0 - s.normal(*x) * m1);
            }
        }
    });
    let of = |k: usize| vector(sums[k].iter().map(|s| *s as f32).collect());
    [dx.from_nhwc(), of(1), of(0)]
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
        let grad = grads.consume::<B>(&ops.node).into_nhwc();
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(ops.state.x).into_nhwc();
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
                let (x, weight) = (x.into_primitive().into_nhwc(), weight.into_primitive().contiguous());
                let batch = statistics(&x, eps);
                let y = forward(x, &batch.statistics, &weight, &bias.into_primitive().contiguous()).from_nhwc();
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
