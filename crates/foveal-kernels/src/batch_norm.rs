//! Batch normalisation with the batch's own statistics.
use burn::tensor::Tensor;

/// The result of [`batch_norm_train`].
#[derive(Clone, Debug)]
pub struct BatchNormOutput {
    /// `[batch, channels, height, width]`
    pub y: Tensor<4>,
    /// The batch's mean, `[channels]`; carries no gradient.
    pub mean: Tensor<1>,
    /// The batch's variance over `n` (not `n - 1`) values, `[channels]`; carries no gradient.
    pub var: Tensor<1>,
}

/// Normalises by the mean and variance of this batch, then scales by `weight` and shifts by `bias`
/// (Ioffe & Szegedy, arXiv 1502.03167, algorithm 1).
///
/// # Shapes
/// `x [batch, channels, height, width]`, `weight` and `bias` `[channels]`.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn batch_norm_train(x: Tensor<4>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> BatchNormOutput {
    let channels = x.dims()[1];
    assert_eq!([weight.dims(), bias.dims()], [[channels]; 2], "batch norm: weight and bias of {channels} channels");
    let mean_of = |t: Tensor<4>| t.mean_dim(3).mean_dim(2).mean_dim(0);
    let by_channel = |t: Tensor<1>| t.reshape([1, channels, 1, 1]);
    let mean = mean_of(x.clone());
    let centred = x - mean.clone();
    let var = mean_of(centred.clone().square());
    let scale = by_channel(weight) / (var.clone() + eps).sqrt();
    BatchNormOutput {
        y: centred * scale + by_channel(bias),
        mean: mean.detach().reshape([channels]),
        var: var.detach().reshape([channels]),
    }
}
