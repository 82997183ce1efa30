//! Two-dimensional convolution.
mod backward;
mod direct;
mod epilogue;
mod forward;
mod geometry;
mod maps;
mod node;
mod outer;
mod packed;
mod spec;
mod unfold;
mod winograd;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::affine::{Activation, affine};
use crate::route::own_kernel;
use geometry::Geometry;
use node::ConvOps;
use spec::{ConvSpec, Parts};

pub use maps::MapSize;
pub(crate) use maps::{Level, Maps};

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
    fused(x, weight, Epilogue { shift: bias, ..Epilogue::default() }, geometry)
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

/// Stride, zero padding and groups of a convolution, the same for both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Step between windows, in pixels of the input.
    pub stride: usize,
    /// Zeros around the input, in pixels.
    pub padding: usize,
    /// Groups of channels that are convolved apart: each output channel reads `in_channels / groups` input channels.
    pub groups: usize,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self { stride: 1, padding: 0, groups: 1 }
    }
}

/// What a convolution applies to its result in the same pass: `activation(y * scale + shift + residual)`.
#[derive(Clone, Debug, Default)]
pub struct Epilogue {
    /// Factor of each output channel, `[out_channels]`; takes no gradient.
    pub scale: Option<Tensor<1>>,
    /// Summand of each output channel, `[out_channels]`.
    pub shift: Option<Tensor<1>>,
    /// Summand of the result's shape.
    pub residual: Option<Tensor<4>>,
    /// Applied last.
    pub activation: Activation,
}

/// A convolution and its epilogue, in one operation on the CPU backends.
///
/// # Shapes
/// `x [batch, in_channels, height, width]`, `weight [out_channels, in_channels / groups, kernel, kernel]`; the result is
/// that of [`conv2d`].
///
/// # Panics
/// If the shapes do not fit each other.
pub fn conv2d_fused(x: Tensor<4>, weight: Tensor<4>, epilogue: Epilogue, options: ConvOptions) -> Tensor<4> {
    let bias = epilogue.shift.as_ref().map(Tensor::dims);
    let geometry = Geometry::new(x.dims(), weight.dims(), bias, options.stride, options.padding);
    fused(x, weight, epilogue, geometry)
}

/// A convolution and what follows it, in one operation where the own kernels can.
fn fused(x: Tensor<4>, weight: Tensor<4>, after: Epilogue, geometry: Geometry) -> Tensor<4> {
    let Epilogue { scale, shift, residual, activation } = after;
    if let Some(residual) = &residual {
        assert_eq!(residual.dims(), geometry.output_dims(), "conv2d: the residual has another shape");
    }
    if !own_kernel(&x) || !own_kernel(&weight) {
        return match (scale, shift, residual) {
            (None, shift, None) => activation.plain(plain(x, weight, shift, geometry)),
            (scale, shift, residual) => {
                let (channels, device) = (geometry.out_channels, x.device());
                let scale = scale.unwrap_or_else(|| Tensor::ones([channels], &device));
                let shift = shift.unwrap_or_else(|| Tensor::zeros([channels], &device));
                affine(plain(x, weight, None, geometry), scale, shift, residual, activation)
            }
        };
    }
    let parts = Parts { scale: scale.is_some(), shift: shift.is_some(), residual: residual.is_some() };
    let device = x.device();
    let absent = || Tensor::<1>::empty([0], &device).into_dispatch();
    Tensor::from_dispatch(<Dispatch as ConvOps>::conv(
        x.into_dispatch(),
        weight.into_dispatch(),
        scale.map_or_else(absent, Tensor::into_dispatch),
        shift.map_or_else(absent, Tensor::into_dispatch),
        residual.map_or_else(absent, Tensor::into_dispatch),
        ConvSpec { geometry, maps: None, parts, activation },
    ))
}

/// 3x3 convolution (stride 1, padding 1) of several maps in one tensor, with the same weights, and an activation.
///
/// # Shapes
/// `x [batch, in_channels, pixels]`: each channel holds the maps of `sizes`, row by row, one after the other;
/// `weight [out_channels, in_channels, 3, 3]`, `bias [out_channels]`; the result is `[batch, out_channels, pixels]`.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn conv2d_maps(
    x: Tensor<3>,
    sizes: &[MapSize],
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<3> {
    let [batch, in_channels, pixels] = x.dims();
    let maps = Maps::new(batch, sizes);
    assert_eq!(maps.pixels, pixels, "conv2d_maps: the maps' sizes {sizes:?} do not make up {pixels} pixels");
    let bias_dims = bias.as_ref().map(Tensor::dims);
    // Of the whole tensor only batch and channels are meant.
    let geometry = Geometry::new([batch, in_channels, 1, pixels], weight.dims(), bias_dims, 1, 1);
    assert_eq!(geometry.kernel, 3, "conv2d_maps: a 3x3 kernel");
    let own = own_kernel(&x) && own_kernel(&weight);
    if !own || !winograd::pays(in_channels, geometry.out_channels, &maps) {
        let each = maps.levels.iter().map(|level| {
            let map = x.clone().narrow(2, level.offset, level.height * level.width);
            let map = map.reshape([batch, in_channels, level.height, level.width]);
            let after = Epilogue { shift: bias.clone(), activation, ..Epilogue::default() };
            let geometry = Geometry { height: level.height, width: level.width, ..geometry };
            fused(map, weight.clone(), after, geometry).flatten(2, 3)
        });
        return Tensor::cat(each.collect(), 2);
    }
    let parts = Parts { shift: bias.is_some(), ..Parts::default() };
    let device = x.device();
    let absent = || Tensor::<1>::empty([0], &device).into_dispatch();
    Tensor::from_dispatch(<Dispatch as ConvOps>::conv(
        x.into_dispatch(),
        weight.into_dispatch(),
        absent(),
        bias.map_or_else(absent, Tensor::into_dispatch),
        absent(),
        ConvSpec { geometry, maps: Some(maps), parts, activation },
    ))
}
