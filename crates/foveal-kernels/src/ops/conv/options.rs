//! How a convolution moves over its input.

/// Stride, zero padding and groups of a convolution, the same for both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Step between windows, in pixels of the input.
    pub stride: usize,
    /// Zeros around the input, in pixels.
    pub padding: usize,
    /// Groups of channels that are convolved apart: each output channel reads `in_channels / groups` input channels,
    /// those of its own group (Xie et al., arXiv 1611.05431, section 3.2).
    pub groups: usize,
}

impl Default for ConvOptions {
    /// Stride 1, no padding, one group.
    fn default() -> Self {
        Self { stride: 1, padding: 0, groups: 1 }
    }
}
