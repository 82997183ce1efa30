//! What is done to a convolution's result while it is still in the cache.
use burn::tensor::Tensor;

use crate::ops::elementwise::Activation;

/// What a convolution applies to its result in the same pass: `activation(y * scale + shift + residual)`.
#[derive(Clone, Debug, Default)]
pub struct Epilogue {
    /// Factor of each output channel, `[out_channels]`; takes no gradient.
    pub scale: Option<Tensor<1>>,
    /// Summand of each output channel, `[out_channels]`.
    pub shift: Option<Tensor<1>>,
    /// Summand of the result's shape.
    pub residual: Option<Tensor<4>>,
    /// Applied last.
    pub activation: Activation,
}

/// An [`Epilogue`] on slices: scale and shift by output channel, the residual in the result's layout.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SliceEpilogue<'a> {
    pub(crate) scale: Option<&'a [f32]>,
    pub(crate) shift: Option<&'a [f32]>,
    pub(crate) residual: Option<&'a [f32]>,
    pub(crate) relu: bool,
}

impl SliceEpilogue<'_> {
    pub(crate) fn scale_of(&self, channel: usize) -> f32 {
        self.scale.map_or(1.0, |s| s[channel])
    }

    pub(crate) fn shift_of(&self, channel: usize) -> f32 {
        self.shift.map_or(0.0, |s| s[channel])
    }
}
