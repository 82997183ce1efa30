//! The operations of the forward pass of a network.

use std::fmt;

use burn::module::Param;
use burn::tensor::Tensor;
use foveal_kernels::Activation;

use crate::{Conv2d, Norm};

/// A layer with its name within the module that contains it. The names are those of torchvision.
#[derive(Debug)]
pub struct Named<'a, L> {
    /// Name of the layer, such as `conv1` or `downsample.0`.
    pub name: &'a str,
    /// Reference to the layer with its parameters.
    pub layer: &'a L,
}

impl<L> Clone for Named<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Named<'_, L> {}

/// Pairs a layer with its name within the module that contains it, such as `conv1`.
pub fn named<'a, L>(name: &'a str, layer: &'a L) -> Named<'a, L> {
    Named { name, layer }
}

/// The operations of a detector's forward pass.
///
/// The `forward` method of a module is written once over this trait and runs on each of its interpreters:
/// [`Eager`](crate::Eager) computes Burn tensors, [`Simulated`](crate::Simulated) does so with the rounding of half
/// precision, [`Traced`](crate::Traced) runs one of them and records statistics of every layer,
/// [`Counter`](crate::Counter) counts parameters, multiply-adds and memory, and the ONNX export of `foveal-detector`
/// emits graph nodes. An interpreter may fuse the operations of one call.
pub trait Graph {
    /// A feature map with the shape `[batch, channels, height, width]`.
    type Map: Clone;
    /// The feature maps of several pyramid levels, to which the same layers are applied.
    type Levels: Clone;
    /// The values of all anchors, with the shape `[batch, anchors, values]`. The order of the anchors is level, row,
    /// column, anchor of the location.
    type Rows;

    /// Runs the part `inner` of a forward pass that belongs to the submodule `name`. The names of its layers get the
    /// prefix `name` with a dot.
    fn scope<T>(&mut self, name: fmt::Arguments<'_>, inner: impl FnOnce(&mut Self) -> T) -> T {
        let _ = name;
        inner(self)
    }

    /// Applies a convolution with its bias, if it has one.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]`
    /// - result: `[batch, out_channels, out_height, out_width]` with `out = (size + 2 * padding - kernel) / stride +
    ///   1`, rounded down
    fn conv(&mut self, conv: Named<'_, Conv2d>, x: Self::Map) -> Self::Map;

    /// Applies a convolution, a norm, a sum and an activation: `activation(norm(conv(x)) + residual)`. Without a
    /// residual, nothing is added.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]`
    /// - residual, result: `[batch, out_channels, out_height, out_width]`
    fn conv_norm(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Named<'_, Norm>,
        x: Self::Map,
        residual: Option<Self::Map>,
        activation: Activation,
    ) -> Self::Map;

    /// Applies max pooling with a 3x3 window, stride 2 and padding 1.
    ///
    /// # Shapes
    /// - x: `[batch, channels, height, width]`
    /// - result: `[batch, channels, height / 2, width / 2]`, rounded up
    fn max_pool(&mut self, x: Self::Map) -> Self::Map;

    /// Applies a convolution, a norm, a ReLU and max pooling: the stem of a ResNet.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]`
    /// - result: the shape of [`max_pool`](Self::max_pool) for the output of [`conv_norm`](Self::conv_norm)
    fn stem(&mut self, conv: Named<'_, Conv2d>, norm: Named<'_, Norm>, x: Self::Map) -> Self::Map {
        let x = self.conv_norm(conv, norm, x, None, Activation::Relu);
        self.max_pool(x)
    }

    /// Applies the ReLU, `max(x, 0)`, to each value of a map. The shape stays the same.
    fn relu(&mut self, x: Self::Map) -> Self::Map;

    /// Enlarges `top` to the size of `lateral` by nearest-neighbour interpolation and adds `lateral` (Lin et al., arXiv
    /// 1612.03144, section 3).
    ///
    /// # Shapes
    /// - lateral, result: `[batch, channels, height, width]`
    /// - top: `[batch, channels, top_height, top_width]`
    fn upsample_add(&mut self, lateral: Self::Map, top: Self::Map) -> Self::Map;

    /// Collects the feature maps of several pyramid levels, so that the same layers can be applied to all of them.
    /// `norms` tells whether a norm follows the convolutions. It may decide how the levels are stored, but never what
    /// is computed.
    ///
    /// # Shapes
    /// - maps: `[batch, channels, height, width]` for each level, P3 first; batch and channels are the same for all
    fn levels(&mut self, maps: &[Self::Map], norms: bool) -> Self::Levels;

    /// Applies `activation(norm(conv(x)))` to every level. The convolution is 3x3 with stride 1, padding 1 and one
    /// group; the norm is a group norm or absent. The statistics of the group norm are computed for each level
    /// separately.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]` for each level
    /// - result: `[batch, out_channels, height, width]` for each level
    fn conv_levels(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Option<Named<'_, Norm>>,
        x: Self::Levels,
        activation: Activation,
    ) -> Self::Levels;

    /// Multiplies the map of each level by a factor of its own, such as the learnt scales of FCOS (Tian et al., arXiv
    /// 1904.01355, section 3.2).
    ///
    /// # Shapes
    /// - factors: one number for each level, P3 first: `[levels]`
    /// - x, result: `[batch, channels, height, width]` for each level
    fn scale_levels(&mut self, factors: Named<'_, Param<Tensor<1>>>, x: Self::Levels) -> Self::Levels;

    /// Converts the maps of all levels to the values of all anchors, in the order level, row, column, anchor of the
    /// location.
    ///
    /// # Shapes
    /// - x: `[batch, anchors_per_location * values, height, width]` for each level, channels ordered (anchor, value)
    /// - result: `[batch, anchors, values]`
    fn rows(&mut self, x: Self::Levels, values: usize) -> Self::Rows;
}
