//! Batch normalisation with the statistics of the batch, as in training.
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::cpu::pixels::{Parts, vector};
use crate::cpu::route::fused_kernel;
use crate::cpu::{CpuBackend, CpuTensor};
use crate::ops::elementwise::Activation;
use crate::ops::half::{at_least_f32, cast_to};
use crate::ops::normalise::{Groups, Statistics};

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
        let x = x.into_nhwc().from_nhwc();
        let (groups, statistics) = statistics(&x, eps);
        let (mean, var) = (means(&statistics), vector(&statistics.var));
        (groups.forward(x, &statistics, &weight.contiguous(), &bias.contiguous()), mean, var)
    }
}

/// The mean of each channel.
fn means<T: CpuTensor>(statistics: &Statistics) -> T {
    T::from_f32s(statistics.mean.clone(), [statistics.mean.len()])
}

/// The statistics of each channel of a batch of maps.
fn statistics<T: CpuTensor>(x: &T, eps: f64) -> (Groups, Statistics) {
    let groups = Groups { parts: Parts::whole(x), in_group: 1, eps, activation: Activation::None };
    let statistics = groups.statistics(x.clone().into_nhwc().f32s());
    (groups, statistics)
}

/// The autodiff node. Its parents are input, weight and bias.
#[derive(Debug)]
struct BatchNormNode;

#[derive(Clone, Debug)]
struct Saved<T> {
    x: NodeId,
    groups: Groups,
    statistics: Statistics,
    weight: T,
    bias: T,
}

impl<B: CpuBackend> Backward<B, 3> for BatchNormNode {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let Saved { x, groups, statistics, weight, bias } = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x).into_nhwc();
        let all = groups.backward(grad, x.f32s(), &statistics, &weight, &bias);
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
                let x = x.into_primitive().into_nhwc().from_nhwc();
                let (weight, bias) = (weight.into_primitive().contiguous(), bias.into_primitive().contiguous());
                let (groups, statistics) = statistics(&x, eps);
                let y = groups.forward(x, &statistics, &weight, &bias);
                let [mean, var] = [means(&statistics), vector(&statistics.var)].map(Self::from_inner);
                let saved = Saved { x: saved_x, groups, statistics, weight, bias };
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
