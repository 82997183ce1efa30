//! The convolution as a layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use foveal_kernels::{Activation, ConvOptions, Epilogue, MapSize, conv2d_fused, conv2d_maps};

use crate::norm::{Folded, Norm};

/// A two-dimensional convolution with torchvision's parameter names.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// The kernels, `[out_channels, in_channels / groups, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// The summand of each output channel, `[out_channels]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Stride, padding and groups.
    #[module(skip)]
    pub options: ConvOptions,
}

impl Conv2d {
    /// A layer with this weight `[out_channels, in_channels / groups, kernel, kernel]` and bias `[out_channels]`.
    ///
    /// The shapes are checked when the layer is applied.
    pub fn new(weight: Tensor<4>, bias: Option<Tensor<1>>, options: ConvOptions) -> Self {
        Self { weight: Param::from_tensor(weight), bias: bias.map(Param::from_tensor), options }
    }

    /// A layer of one group whose padding, `kernel / 2`, keeps the size of its input at stride 1 (for odd kernels).
    pub fn same(weight: Tensor<4>, bias: Option<Tensor<1>>, stride: usize) -> Self {
        let padding = weight.dims()[2] / 2;
        Self::new(weight, bias, ConvOptions { stride, padding, groups: 1 })
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }

    /// The convolution of `x`, plus the bias.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]`
    /// - result: `[batch, out_channels, out_height, out_width]` with `out = (size + 2 * padding - kernel) / stride + 1`,
    ///   rounded down
    ///
    /// # Panics
    /// If the shapes do not fit each other, or the groups do not divide the channels.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d_fused(x, self.weight.val(), Epilogue { shift: self.bias(), ..Epilogue::default() }, self.options)
    }

    /// The convolution of several maps in one tensor, plus the bias, and an activation; for 3x3 layers of stride 1,
    /// padding 1 and one group.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, pixels]`: each channel holds the maps of `sizes`, row by row, one after the other
    /// - result: `[batch, out_channels, pixels]`
    ///
    /// # Panics
    /// If the layer has other options or another kernel, or the shapes do not fit each other.
    pub fn forward_maps(&self, x: Tensor<3>, sizes: &[MapSize], activation: Activation) -> Tensor<3> {
        assert_eq!(
            self.options,
            ConvOptions { stride: 1, padding: 1, groups: 1 },
            "several maps: a 3x3 layer of one group"
        );
        conv2d_maps(x, sizes, self.weight.val(), self.bias(), activation)
    }

    /// Whether [`Conv2d::forward_norm`] with this norm is one operation: the norm is an affine map that does not learn.
    pub(crate) fn runs_as_one(&self, norm: &Norm) -> bool {
        self.bias.is_none() && norm.is_fixed_affine()
    }

    /// `activation(norm(conv(x)) + residual)`, in one operation where the norm is an affine map that does not learn.
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
        let epilogue = Epilogue { scale: Some(scale), shift: Some(shift), residual, activation };
        conv2d_fused(x, self.weight.val(), epilogue, self.options)
    }
}
