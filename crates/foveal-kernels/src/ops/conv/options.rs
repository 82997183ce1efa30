//! The options of a convolution.

/// Stride, zero padding and groups of a convolution. Stride and padding are the same for both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Distance between neighbouring windows in pixels of the input, at least 1. Default: 1.
    pub stride: usize,
    /// Number of zeros added on each side of the input, in pixels. Default: 0.
    pub padding: usize,
    /// Number of groups of channels that are convolved separately: each output channel reads the `in_channels / groups`
    /// input channels of its own group (Xie et al., arXiv 1611.05431, section 3.2). Must divide the numbers of input
    /// and output channels. Default: 1.
    pub groups: usize,
}

impl Default for ConvOptions {
    /// Options with stride 1, no padding and one group.
    fn default() -> Self {
        Self { stride: 1, padding: 0, groups: 1 }
    }
}
