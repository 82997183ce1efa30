//! Operations on a convolution's result that are applied while it is still in the cache.
use burn::tensor::Tensor;

use crate::cpu::matmul::Finish;
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

/// The [`Epilogue`] with slices instead of tensors; the residual has the layout of the result.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SliceEpilogue<'a> {
    /// Factor of each output channel, `[out_channels]`, or `None` for 1.
    pub(crate) scale: Option<&'a [f32]>,
    /// Number added to each output channel, `[out_channels]`, or `None` for 0.
    pub(crate) shift: Option<&'a [f32]>,
    /// Values that are added to the result, one for each of its elements, or `None` for 0.
    pub(crate) residual: Option<&'a [f32]>,
    /// Whether a ReLU is applied last.
    pub(crate) relu: bool,
}

impl<'a> SliceEpilogue<'a> {
    /// Whether the result stays as it is.
    pub(crate) fn is_none(&self) -> bool {
        !self.relu && self.scale.is_none() && self.shift.is_none() && self.residual.is_none()
    }

    /// The epilogue as an operation on a matrix product's sums; `None` if the result stays as it is.
    pub(super) fn finish(self) -> Option<Finish<'a>> {
        let Self { scale, shift, residual, relu } = self;
        (!self.is_none()).then_some(Finish { scale, shift, residual, relu })
    }

    pub(crate) fn scale_of(&self, channel: usize) -> f32 {
        self.scale.map_or(1.0, |s| s[channel])
    }

    pub(crate) fn shift_of(&self, channel: usize) -> f32 {
        self.shift.map_or(0.0, |s| s[channel])
    }
}
