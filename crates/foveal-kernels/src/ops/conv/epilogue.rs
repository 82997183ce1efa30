//! Operations on a convolution's result that are applied while it is still in the cache.
use burn::tensor::Tensor;

use crate::ops::elementwise::Activation;

/// Operations that a convolution applies to its result `y` in the same pass:
/// `activation(y * scale + shift + residual) * mask`.
#[derive(Clone, Debug, Default)]
pub struct Epilogue {
    /// Factor of each output channel, `[out_channels]`, or `None` for 1. It receives no gradient.
    pub scale: Option<Tensor<1>>,
    /// Number added to each output channel, `[out_channels]`, or `None` for 0. It receives a gradient.
    pub shift: Option<Tensor<1>>,
    /// Tensor that is added, of the result's shape `[batch, out_channels, out_height, out_width]`. It receives a
    /// gradient.
    pub residual: Option<Tensor<4>>,
    /// Activation, which is applied to the sum. Default: none.
    pub activation: Activation,
    /// Zeros and ones, `[1, 1, out_height, out_width]` in the data type of the result, by which every channel of the
    /// activated sum is multiplied, or `None` for 1. It receives no gradient.
    pub mask: Option<Tensor<4>>,
}
