//! What a convolution of the own kernels does, and how.
use burn::tensor::Shape;

use super::geometry::Geometry;
use super::maps::{MapSize, Maps};
use super::winograd;
use crate::affine::Activation;

/// A convolution and what follows it at once.
#[derive(Clone, Debug)]
pub struct ConvSpec {
    pub(crate) geometry: Geometry,
    /// Several maps in one tensor; then kernels are 3x3, stride 1 and padding 1.
    pub(crate) maps: Option<Maps>,
    pub(crate) parts: Parts,
    pub(crate) activation: Activation,
}

/// Which of the optional tensors are meant. Those that are not are empty, since an operation has a fixed number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) scale: bool,
    pub(crate) shift: bool,
    pub(crate) residual: bool,
}

impl ConvSpec {
    /// The maps, if Winograd's way is the faster one.
    pub(super) fn winograd(&self) -> Option<Maps> {
        let g = &self.geometry;
        let maps = match &self.maps {
            Some(maps) => maps.clone(),
            None if (g.kernel, g.stride, g.padding) == (3, 1, 1) => {
                Maps::new(g.batch, &[MapSize { height: g.height, width: g.width }])
            }
            None => return None,
        };
        (self.maps.is_some() || winograd::pays(g.in_channels, g.out_channels, &maps)).then_some(maps)
    }

    /// `[batch, channels, …]` of the input or the output.
    pub(super) fn shape(&self, channels: usize, [height, width]: [usize; 2]) -> Shape {
        match &self.maps {
            Some(maps) => Shape::from([maps.batch, channels, maps.pixels]),
            None => Shape::from([self.geometry.batch, channels, height, width]),
        }
    }

    pub(super) fn input_shape(&self) -> Shape {
        let g = &self.geometry;
        self.shape(g.in_channels, [g.height, g.width])
    }

    pub(super) fn output_shape(&self) -> Shape {
        let g = &self.geometry;
        match self.maps {
            Some(_) => self.shape(g.out_channels, [0; 2]),
            None => self.shape(g.out_channels, [g.out_height(), g.out_width()]),
        }
    }

    /// Values of an output channel.
    pub(super) fn out_pixels(&self) -> usize {
        self.maps.as_ref().map_or_else(|| self.geometry.out_plane(), |maps| maps.pixels)
    }
}
