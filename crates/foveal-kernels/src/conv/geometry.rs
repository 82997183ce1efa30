//! Sizes of a convolution.
use burn::tensor::ops::ConvOptions;

/// Sizes of a square-kernel convolution: one stride and one padding for both axes, no dilation, one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub(crate) batch: usize,
    pub(crate) in_channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) out_channels: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl Geometry {
    /// Checks that the parts fit.
    ///
    /// # Panics
    /// Where they do not: that is a mistake in the model, not in its data.
    pub(crate) fn new(
        input: [usize; 4],
        weight: [usize; 4],
        bias: Option<[usize; 1]>,
        stride: usize,
        padding: usize,
    ) -> Self {
        let [batch, in_channels, height, width] = input;
        let [out_channels, weight_in, kernel, kernel_width] = weight;
        let what = || format!("conv2d of {input:?} by {weight:?}, stride {stride}, padding {padding}");
        assert_eq!(in_channels, weight_in, "{}: the channels differ", what());
        assert_eq!(kernel, kernel_width, "{}: the kernel is not square", what());
        assert!(kernel > 0 && stride > 0, "{}: kernel and stride must be positive", what());
        assert!(
            height + 2 * padding >= kernel && width + 2 * padding >= kernel,
            "{}: the kernel is larger than the padded input",
            what()
        );
        if let Some([length]) = bias {
            assert_eq!(length, out_channels, "{}: the bias has the wrong length", what());
        }
        Self { batch, in_channels, height, width, out_channels, kernel, stride, padding }
    }

    pub(crate) fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub(crate) fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub(crate) fn in_plane(&self) -> usize {
        self.height * self.width
    }

    pub(crate) fn out_plane(&self) -> usize {
        self.out_height() * self.out_width()
    }

    pub(crate) fn output_dims(&self) -> [usize; 4] {
        [self.batch, self.out_channels, self.out_height(), self.out_width()]
    }

    pub(crate) fn weight_dims(&self) -> [usize; 4] {
        [self.out_channels, self.in_channels, self.kernel, self.kernel]
    }

    /// Kernel positions.
    pub(crate) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Length of one output channel's weights.
    pub(crate) fn depth(&self) -> usize {
        self.in_channels * self.taps()
    }

    /// A 1x1 convolution that reads the input as it lies.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    pub(crate) fn options(&self) -> ConvOptions<2> {
        ConvOptions::new([self.stride; 2], [self.padding; 2], [1; 2], 1)
    }
}
