//! The convolution as a layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use foveal_kernels::{Activation, ConvOptions, Epilogue, MapSize, conv2d_fused, conv2d_maps};

use crate::norm::{Folded, Norm};

/// A convolution layer with torchvision's parameter names.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out_channels, in_channels / groups, kernel, kernel]`
    pub weight: Param<Tensor<4>>,
    /// `[out_channels]`
    pub bias: Option<Param<Tensor<1>>>,
    /// Stride, padding and groups.
    #[module(skip)]
    pub options: ConvOptions,
}

impl Conv2d {
    /// A layer with these parameters.
    pub fn new(weight: Tensor<4>, bias: Option<Tensor<1>>, options: ConvOptions) -> Self {
        Self { weight: Param::from_tensor(weight), bias: bias.map(Param::from_tensor), options }
    }

    /// A layer of one group whose padding, `kernel / 2`, keeps the size of its input at stride 1.
    pub fn same(weight: Tensor<4>, bias: Option<Tensor<1>>, stride: usize) -> Self {
        let padding = weight.dims()[2] / 2;
        Self::new(weight, bias, ConvOptions { stride, padding, groups: 1 })
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }

    /// The convolution and its bias.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]`
    /// - result: `[batch, out_channels, out_height, out_width]`, as [`foveal_kernels::conv2d`]'s
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d_fused(x, self.weight.val(), Epilogue { shift: self.bias(), ..Epilogue::default() }, self.options)
    }

    /// [`conv2d_maps`]: several maps in one tensor; for 3x3 layers of stride 1 and padding 1.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, pixels]`
    /// - result: `[batch, out_channels, pixels]`
    ///
    /// # Panics
    /// If the layer has another stride or padding.
    pub fn forward_maps(&self, x: Tensor<3>, sizes: &[MapSize], activation: Activation) -> Tensor<3> {
        assert_eq!(self.options, ConvOptions { stride: 1, padding: 1, groups: 1 }, "several maps: a plain 3x3 layer");
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
    /// - residual: of the result's shape
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
