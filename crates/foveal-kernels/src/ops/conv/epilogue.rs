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
#[derive(Clone, Debug, Default)]
pub(crate) struct SliceEpilogue<'a> {
    /// Factor of each output channel, with [`PADDING`] further elements, or `None` for 1.
    scale: Option<Vec<f32>>,
    /// Number added to each output channel, with [`PADDING`] further elements, or `None` for 0.
    shift: Option<Vec<f32>>,
    /// Values that are added to the result, one for each of its elements, or `None` for 0.
    pub(crate) residual: Option<&'a [f32]>,
    /// Whether a ReLU is applied last.
    pub(crate) relu: bool,
}

/// Number of elements behind the last channel that whole panels and vectors may read.
const PADDING: usize = 32;

impl<'a> SliceEpilogue<'a> {
    /// An epilogue with a factor and a number for each channel, a residual and a ReLU, each if present.
    pub(crate) fn new(scale: Option<&[f32]>, shift: Option<&[f32]>, residual: Option<&'a [f32]>, relu: bool) -> Self {
        let padded = |values: &[f32]| [values, &[0.0; PADDING]].concat();
        Self { scale: scale.map(padded), shift: shift.map(padded), residual, relu }
    }

    /// The operations for the output channels from `channel` on; element `at` of the result is the first one.
    pub(crate) fn from(&self, channel: usize, at: usize) -> Finish<'_> {
        Finish {
            accumulate: false,
            scale: self.scale.as_ref().map(|values| &values[channel..]),
            shift: self.shift.as_ref().map(|values| &values[channel..]),
            residual: self.residual.map(|values| &values[at..]),
            relu: self.relu,
        }
    }

    /// Whether scale and shift, if present, are those of `channels` channels, and the residual has `len` elements.
    pub(crate) fn fits(&self, channels: usize, len: usize) -> bool {
        let right = |values: &Option<Vec<f32>>| values.as_ref().is_none_or(|v| v.len() == channels + PADDING);
        right(&self.scale) && right(&self.shift) && self.residual.is_none_or(|r| r.len() == len)
    }
}
