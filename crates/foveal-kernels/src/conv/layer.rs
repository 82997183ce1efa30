//! The convolution as a layer.
use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::geometry::Geometry;
use super::{After, MapSize, conv2d, conv2d_maps, fused};
use crate::affine::Activation;
use crate::norm::Norm;

/// A convolution layer with torchvision's parameter names.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out_channels, in_channels, kernel, kernel]`
    pub weight: Param<Tensor<4>>,
    /// `[out_channels]`
    pub bias: Option<Param<Tensor<1>>>,
    /// Step between windows, in pixels of the input.
    #[module(skip)]
    pub stride: usize,
    /// Zeros around the input, in pixels.
    #[module(skip)]
    pub padding: usize,
}

impl Conv2d {
    /// A layer of these parameters.
    pub fn new(weight: Tensor<4>, bias: Option<Tensor<1>>, stride: usize, padding: usize) -> Self {
        Self { weight: Param::from_tensor(weight), bias: bias.map(Param::from_tensor), stride, padding }
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }

    /// [`conv2d`] of `x [batch, in_channels, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(x, self.weight.val(), self.bias(), self.stride, self.padding)
    }

    /// [`conv2d_maps`] of `x [batch, in_channels, pixels]`; for 3x3 layers.
    pub fn forward_maps(&self, x: Tensor<3>, sizes: &[MapSize], activation: Activation) -> Tensor<3> {
        assert_eq!((self.stride, self.padding), (1, 1), "several maps: stride 1 and padding 1");
        conv2d_maps(x, sizes, self.weight.val(), self.bias(), activation)
    }

    /// `activation(norm(conv(x)) + residual)`: in one operation where the norm is an affine map that does not learn.
    ///
    /// # Shapes
    /// - x: `[batch, in_channels, height, width]`
    /// - residual: as the result
    pub fn forward_norm(
        &self,
        x: Tensor<4>,
        norm: &Norm,
        residual: Option<Tensor<4>>,
        activation: Activation,
    ) -> Tensor<4> {
        match norm.folded() {
            Some(folded) if self.bias.is_none() => {
                let weight = self.weight.val();
                let geometry = Geometry::new(x.dims(), weight.dims(), None, self.stride, self.padding);
                let after = After { scale: Some(folded.scale), shift: Some(folded.shift), residual, activation };
                fused(x, weight, after, geometry)
            }
            _ => norm.forward(self.forward(x), residual, activation),
        }
    }
}
