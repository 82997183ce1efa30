//! The description of a convolution for the fused kernels.
use burn::tensor::Shape;

use super::geometry::Geometry;
use super::maps::{MapSize, Maps};
use super::winograd;
use crate::ops::elementwise::Activation;

/// Description of a convolution with its epilogue (`activation(conv(x, weight) * scale + shift + residual)`): the
/// sizes, the optional tensors that are present, and the activation. The tensors themselves are passed separately.
#[derive(Clone, Debug)]
pub(super) struct ConvSpec {
    /// Sizes of the input, the output and the kernel, with stride, padding and groups.
    pub(crate) geometry: Geometry,
    /// The maps, if one tensor holds several. The kernel is then 3x3 with stride 1, padding 1 and one group.
    pub(crate) maps: Option<Maps>,
    /// The optional tensors of the epilogue that are present.
    pub(crate) parts: EpilogueParts,
    /// Activation that is applied last.
    pub(crate) activation: Activation,
}

/// The optional tensors of an epilogue that are present. An operation has a fixed number of tensors, so an absent
/// tensor is passed as an empty one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EpilogueParts {
    /// Whether there is a factor for each output channel.
    pub(crate) scale: bool,
    /// Whether there is a number added to each output channel.
    pub(crate) shift: bool,
    /// Whether a tensor of the result's shape is added.
    pub(crate) residual: bool,
}

impl ConvSpec {
    /// The maps, if Winograd's minimal filtering is faster than the direct convolution.
    pub(super) fn winograd(&self) -> Option<Maps> {
        let g = &self.geometry;
        let maps = match &self.maps {
            Some(maps) => maps.clone(),
            None if (g.kernel, g.stride, g.padding, g.groups) == (3, 1, 1, 1) => {
                Maps::new(g.batch, &[MapSize { height: g.height, width: g.width }])
            }
            None => return None,
        };
        (self.maps.is_some() || winograd::pays(g.in_channels, g.out_channels, &maps)).then_some(maps)
    }

    /// The shape of the input with the channels last: `[batch, height, width, channels]`, or `[batch, pixels, channels]`
    /// if one tensor holds several maps.
    pub(super) fn input_nhwc(&self) -> Shape {
        let g = &self.geometry;
        self.nhwc(g.in_channels, [g.height, g.width])
    }

    /// The shape of the output with the channels last.
    pub(super) fn output_nhwc(&self) -> Shape {
        let g = &self.geometry;
        match self.maps {
            Some(_) => self.nhwc(g.out_channels, [0; 2]),
            None => self.nhwc(g.out_channels, [g.out_height(), g.out_width()]),
        }
    }

    fn nhwc(&self, channels: usize, [height, width]: [usize; 2]) -> Shape {
        match &self.maps {
            Some(maps) => Shape::from([maps.batch, maps.pixels, channels]),
            None => Shape::from([self.geometry.batch, height, width, channels]),
        }
    }
}
