//! The convolution layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use foveal_kernels::{Activation, ConvCache, ConvOptions, Epilogue, MapSize, conv2d_cached, conv2d_fused, conv2d_maps};

use crate::norm::{Folded, Norm};

/// A two-dimensional convolution layer, with the parameter names of torch's `Conv2d`.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// Weights, `[out_channels, in_channels / groups, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// Bias of each output channel, `[out_channels]`; `None` for a layer without bias.
    pub bias: Option<Param<Tensor<1>>>,
    /// Stride, padding and groups of the convolution.
    #[module(skip)]
    pub options: ConvOptions,
    /// Weight and bias as a GPU reads them, as long as they do not change.
    #[module(skip)]
    cache: ConvCache,
}

impl Conv2d {
    /// Makes a layer from its weight and bias. The shapes are checked when the layer is applied.
    ///
    /// # Shapes
    /// - weight: `[out_channels, in_channels / groups, kernel, kernel]`
    /// - bias: `[out_channels]`
    pub fn new(weight: Tensor<4>, bias: Option<Tensor<1>>, options: ConvOptions) -> Self {
        let (weight, bias) = (Param::from_tensor(weight), bias.map(Param::from_tensor));
        Self { weight, bias, options, cache: ConvCache::default() }
    }

    /// Makes a layer of one group with the padding `kernel / 2`, which keeps height and width at stride 1 if the kernel
    /// size is odd.
    ///
    /// # Shapes
    /// - weight: `[out_channels, in_channels, kernel, kernel]`
    /// - bias: `[out_channels]`
    pub fn same(weight: Tensor<4>, bias: Option<Tensor<1>>, stride: usize) -> Self {
        let padding = weight.dims()[2] / 2;
        Self::new(weight, bias, ConvOptions { stride, padding, groups: 1 })
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }

    /// Computes the convolution of `x` plus the bias.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]`
    /// - result: `[batch, out_channels, out_height, out_width]` with `out = (size + 2 * padding - kernel) / stride +
    ///   1`, rounded down
    ///
    /// # Panics
    /// If the shapes do not fit each other, or the groups do not divide the channels.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_activated(x, Activation::None)
    }

    /// Computes `activation(conv(x) + bias)` in one operation.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]`
    /// - result: `[batch, out_channels, out_height, out_width]` with `out = (size + 2 * padding - kernel) / stride +
    ///   1`, rounded down
    ///
    /// # Panics
    /// If the shapes do not fit each other, or the groups do not divide the channels.
    pub fn forward_activated(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        self.run(x, Epilogue { shift: self.bias(), activation, ..Epilogue::default() })
    }

    /// Computes `activation(conv(x) + bias) * mask` in one operation. The layer must have a 3x3 kernel, stride 1,
    /// padding 1 and one group.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]`
    /// - mask: `[1, 1, height, width]`, zeros and ones in the data type of `x`; it receives no gradient
    /// - result: `[batch, out_channels, height, width]`
    ///
    /// # Panics
    /// If the layer has another kernel size, stride, padding or number of groups, or the shapes do not fit each other.
    pub(crate) fn forward_masked(&self, x: Tensor<4>, activation: Activation, mask: Option<Tensor<4>>) -> Tensor<4> {
        self.assert_shared();
        self.run(x, Epilogue { shift: self.bias(), activation, mask, ..Epilogue::default() })
    }

    /// Panics if the layer cannot be applied to several maps in one tensor.
    fn assert_shared(&self) {
        assert_eq!(
            (self.options, self.weight.dims()[2]),
            (ConvOptions { stride: 1, padding: 1, groups: 1 }, 3),
            "several maps in one tensor need a 3x3 layer with stride 1, padding 1 and one group"
        );
    }

    fn run(&self, x: Tensor<4>, epilogue: Epilogue) -> Tensor<4> {
        conv2d_cached(x, self.weight.val(), epilogue, self.options, &self.cache)
    }

    /// Computes the convolution of several maps in one tensor, plus the bias, and applies an activation. Each map is
    /// convolved separately. The layer must have a 3x3 kernel, stride 1, padding 1 and one group.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, pixels]`, where each channel contains the maps with the sizes `sizes`, each row by
    ///   row, one after the other
    /// - result: `[batch, out_channels, pixels]`
    ///
    /// # Panics
    /// If the layer has another kernel size, stride, padding or number of groups, or the shapes do not fit each other.
    pub fn forward_maps(&self, x: Tensor<3>, sizes: &[MapSize], activation: Activation) -> Tensor<3> {
        self.assert_shared();
        conv2d_maps(x, sizes, self.weight.val(), self.bias(), activation)
    }

    /// Whether [`Conv2d::forward_norm`] computes the convolution and this norm in one pass over the maps, because the
    /// norm is an affine map by stored statistics.
    pub(crate) fn runs_as_one(&self, norm: &Norm) -> bool {
        self.bias.is_none() && norm.is_affine()
    }

    /// Computes `activation(norm(conv(x)) + residual)`; without a residual, nothing is added. This is a single
    /// operation on maps if the layer has no bias and the norm is an affine map by stored statistics.
    ///
    /// The fused convolution has no gradient for a scale behind it. If scale and shift of the norm are trained, the
    /// scale is therefore multiplied with the weight before the convolution. It gets its gradient from that product,
    /// which is exact and costs operations on weights only: no map is read for it, and none is kept.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]`
    /// - residual, result: `[batch, out_channels, out_height, out_width]`
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn forward_norm(
        &self,
        x: Tensor<4>,
        norm: &Norm,
        residual: Option<Tensor<4>>,
        activation: Activation,
    ) -> Tensor<4> {
        if !self.runs_as_one(norm) {
            return norm.forward(self.forward(x), residual, activation);
        }
        let Folded { scale, shift } = norm.by_statistics();
        let epilogue = Epilogue { scale: None, shift: Some(shift), residual, activation, mask: None };
        if !norm.learns() {
            return self.run(x, Epilogue { scale: Some(scale), ..epilogue });
        }
        let [channels] = scale.dims();
        // Another weight in every step, so that nothing could be kept for the next one.
        conv2d_fused(x, self.weight.val() * scale.reshape([channels, 1, 1, 1]), epilogue, self.options)
    }
}
