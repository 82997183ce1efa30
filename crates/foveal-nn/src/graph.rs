//! The operations that a network's forward pass is written over.

use std::fmt;

use foveal_kernels::Activation;

use crate::{Conv2d, Norm};

/// A layer and its name within the module that holds it, as torchvision spells it.
#[derive(Debug)]
pub struct Named<'a, L> {
    /// The name, such as `conv1` or `downsample.0`.
    pub name: &'a str,
    /// The layer.
    pub layer: &'a L,
}

impl<L> Clone for Named<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Named<'_, L> {}

/// Names a layer.
pub fn named<'a, L>(name: &'a str, layer: &'a L) -> Named<'a, L> {
    Named { name, layer }
}

/// The operations of a detector's forward pass.
///
/// A module's `forward` is written once over this trait and runs on each of its interpreters: [`Eager`](crate::Eager)
/// computes Burn tensors, [`Counter`](crate::Counter) counts parameters, multiply-adds and memory, and the ONNX export
/// of `foveal-detector` emits graph nodes. An interpreter may fuse what one call describes.
pub trait Graph {
    /// A feature map `[batch, channels, height, width]`.
    type Map: Clone;
    /// The maps of several pyramid levels, to which the same layers are applied.
    type Levels: Clone;
    /// Rows in anchor order, `[batch, anchors, values]`.
    type Rows;

    /// Runs `inner` for the layers of a submodule; their names are prefixed with `name` and a dot.
    fn scope<T>(&mut self, name: fmt::Arguments<'_>, inner: impl FnOnce(&mut Self) -> T) -> T {
        let _ = name;
        inner(self)
    }

    /// A convolution with its bias, if it has one.
    fn conv(&mut self, conv: Named<'_, Conv2d>, x: Self::Map) -> Self::Map;

    /// `activation(norm(conv(x)) + residual)`.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]`
    /// - residual: of the result's shape
    fn conv_norm(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Named<'_, Norm>,
        x: Self::Map,
        residual: Option<Self::Map>,
        activation: Activation,
    ) -> Self::Map;

    /// Max pooling with a 3x3 window, stride 2 and padding 1: height and width are halved and rounded up.
    fn max_pool(&mut self, x: Self::Map) -> Self::Map;

    /// `max(x, 0)`.
    fn relu(&mut self, x: Self::Map) -> Self::Map;

    /// `lateral + top`, where `top` is enlarged to the size of `lateral` by nearest-neighbour interpolation.
    fn upsample_add(&mut self, lateral: Self::Map, top: Self::Map) -> Self::Map;

    /// Collects the maps of several levels, finest first, all with the same number of channels.
    fn levels(&mut self, maps: &[Self::Map]) -> Self::Levels;

    /// `activation(norm(conv(x)))` on every level: a 3x3 convolution with stride 1, padding 1 and one group, and a group
    /// norm or none. A level's group statistics are its own.
    fn conv_levels(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Option<Named<'_, Norm>>,
        x: Self::Levels,
        activation: Activation,
    ) -> Self::Levels;

    /// The rows of all levels in anchor order (level, row, column, anchor of the location).
    ///
    /// # Shapes
    /// - x: `[batch, anchors_per_location * values, height, width]` for each level, channels ordered (anchor, value)
    /// - result: `[batch, anchors, values]`
    fn rows(&mut self, x: Self::Levels, values: usize) -> Self::Rows;
}
