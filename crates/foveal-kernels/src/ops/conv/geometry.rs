//! The sizes of a convolution.
use burn::tensor::ops;

use super::options::ConvOptions;

/// Sizes of a convolution with a square kernel, the same stride and padding on both axes, and no dilation.
///
/// The kernels work on *parts*: the channels of one group. With one group a part has all channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Number of images.
    pub(crate) batch: usize,
    /// Number of input channels of all groups together.
    pub(crate) in_channels: usize,
    /// Height of the input in pixels.
    pub(crate) height: usize,
    /// Width of the input in pixels.
    pub(crate) width: usize,
    /// Number of output channels of all groups together.
    pub(crate) out_channels: usize,
    /// Height and width of the kernel.
    pub(crate) kernel: usize,
    /// Distance between neighbouring windows in pixels of the input.
    pub(crate) stride: usize,
    /// Number of zeros added on each side of the input, in pixels.
    pub(crate) padding: usize,
    /// Number of groups of channels that are convolved separately.
    pub(crate) groups: usize,
}

impl Geometry {
    /// Checks that the shapes of the input, the weight and the bias fit each other and the options.
    ///
    /// # Panics
    /// If they do not fit: that is an error in the program, not in its input.
    pub(crate) fn new(input: [usize; 4], weight: [usize; 4], bias: Option<[usize; 1]>, options: ConvOptions) -> Self {
        let [batch, in_channels, height, width] = input;
        let [out_channels, weight_in, kernel, kernel_width] = weight;
        let ConvOptions { stride, padding, groups } = options;
        let what = || format!("conv2d of {input:?} by {weight:?}, stride {stride}, padding {padding}, groups {groups}");
        assert!(groups > 0, "{}: there must be at least one group", what());
        assert!(in_channels.is_multiple_of(groups), "{}: the groups do not divide the input channels", what());
        assert!(out_channels.is_multiple_of(groups), "{}: the groups do not divide the output channels", what());
        assert_eq!(in_channels / groups, weight_in, "{}: the channels differ", what());
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
        Self { batch, in_channels, height, width, out_channels, kernel, stride, padding, groups }
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
        [self.out_channels, self.part_inputs(), self.kernel, self.kernel]
    }

    /// Number of input channels of a part.
    pub(crate) fn part_inputs(&self) -> usize {
        self.in_channels / self.groups
    }

    /// Number of output channels of a part.
    pub(crate) fn part_outputs(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Number of kernel positions.
    pub(crate) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Number of weights of one output channel.
    pub(crate) fn depth(&self) -> usize {
        self.part_inputs() * self.taps()
    }

    /// Whether this is a 1x1 convolution with stride 1 and no padding, which needs no unfolding of the input.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    /// The options for Burn's convolution.
    pub(crate) fn burn_options(&self) -> ops::ConvOptions<2> {
        ops::ConvOptions::new([self.stride; 2], [self.padding; 2], [1; 2], self.groups)
    }
}
