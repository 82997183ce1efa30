//! Two-dimensional convolution.
mod backward;
mod forward;
mod geometry;
mod node;
mod tile;

use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::route::own_kernel;
use geometry::Geometry;
use node::ConvOps;

/// Convolution of `x` by a square kernel, with the same stride and zero padding on both axes.
///
/// # Shapes
/// `x [batch, in_channels, height, width]`, `weight [out_channels, in_channels, kernel, kernel]`,
/// `bias [out_channels]`; the result is `[batch, out_channels, out_height, out_width]` with
/// `out = (size + 2 * padding - kernel) / stride + 1`, rounded down.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, stride: usize, padding: usize) -> Tensor<4> {
    let geometry = Geometry::new(x.dims(), weight.dims(), bias.as_ref().map(Tensor::dims), stride, padding);
    if !own_kernel(&x) || !own_kernel(&weight) {
        return plain(x, weight, bias, geometry);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => <Dispatch as ConvOps>::conv_bias(x, weight, bias.into_dispatch(), geometry),
        None => <Dispatch as ConvOps>::conv(x, weight, geometry),
    })
}

/// [`conv2d`] by Burn's own operation.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn conv2d_plain(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    padding: usize,
) -> Tensor<4> {
    let geometry = Geometry::new(x.dims(), weight.dims(), bias.as_ref().map(Tensor::dims), stride, padding);
    plain(x, weight, bias, geometry)
}

fn plain(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, geometry: Geometry) -> Tensor<4> {
    burn::tensor::module::conv2d(x, weight, bias, geometry.options())
}

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

    /// [`conv2d`] of `x [batch, in_channels, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(x, self.weight.val(), self.bias.as_ref().map(Param::val), self.stride, self.padding)
    }
}
