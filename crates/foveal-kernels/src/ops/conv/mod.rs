//! Two-dimensional convolution.
mod backward;
mod composed;
mod direct;
mod epilogue;
mod forward;
mod geometry;
mod maps;
mod node;
mod options;
mod outer;
mod packed;
mod phases;
mod spec;
mod tasks;
mod unfold;
mod winograd;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::cpu::route::{self, fused_kernel};
use crate::ops::affine::affine;
use crate::ops::elementwise::Activation;
use geometry::Geometry;
use node::ConvOps;
use spec::{ConvSpec, EpilogueParts};

pub use composed::ConvCache;
pub use epilogue::Epilogue;
pub use maps::MapSize;
pub(crate) use maps::{Level, Maps};
pub use options::ConvOptions;

/// Convolves `x` with a square kernel, with the same stride and zero padding on both axes. `x`, `weight` and `bias`
/// receive gradients.
///
/// # Shapes
/// `x [batch, in_channels, height, width]`, `weight [out_channels, in_channels / groups, kernel, kernel]`,
/// `bias [out_channels]`; the result is `[batch, out_channels, out_height, out_width]` with
/// `out = (size + 2 * padding - kernel) / stride + 1`, rounded down.
///
/// # Panics
/// If the shapes do not fit each other, or the groups do not divide the channels.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, options: ConvOptions) -> Tensor<4> {
    conv2d_fused(x, weight, Epilogue { shift: bias, ..Epilogue::default() }, options)
}

/// Convolves `x` with a square kernel by Burn's operation, on all backends. For comparisons with [`conv2d`].
///
/// # Shapes
/// `x [batch, in_channels, height, width]`, `weight [out_channels, in_channels / groups, kernel, kernel]`,
/// `bias [out_channels]`; the result is `[batch, out_channels, out_height, out_width]` with
/// `out = (size + 2 * padding - kernel) / stride + 1`, rounded down.
///
/// # Panics
/// If the shapes do not fit each other, or the groups do not divide the channels.
pub fn conv2d_reference(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, options: ConvOptions) -> Tensor<4> {
    let geometry = Geometry::new(x.dims(), weight.dims(), bias.as_ref().map(Tensor::dims), options);
    reference(x, weight, bias, geometry)
}

fn reference(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, geometry: Geometry) -> Tensor<4> {
    burn::tensor::module::conv2d(x, weight, bias, geometry.burn_options())
}

/// Computes a convolution and its epilogue, `activation(conv(x, weight) * scale + shift + residual) * mask`, in one
/// autodiff node. `x`, `weight`, the shift and the residual receive gradients.
///
/// The maps `x`, residual and result have one data type. Weight, scale and shift may have more bits; their gradients
/// have the data type of the weight and of the shift.
///
/// # Shapes
/// `x [batch, in_channels, height, width]`, `weight [out_channels, in_channels / groups, kernel, kernel]`; the result
/// is `[batch, out_channels, out_height, out_width]` with `out = (size + 2 * padding - kernel) / stride + 1`, rounded
/// down.
///
/// # Panics
/// If the shapes do not fit each other, the groups do not divide the channels, or the residual or the mask has another
/// data type than `x`.
pub fn conv2d_fused(x: Tensor<4>, weight: Tensor<4>, epilogue: Epilogue, options: ConvOptions) -> Tensor<4> {
    let bias = epilogue.shift.as_ref().map(Tensor::dims);
    let geometry = Geometry::new(x.dims(), weight.dims(), bias, options);
    run(x, weight, epilogue, geometry, None)
}

/// Computes the same as [`conv2d_fused`]. On GPUs, `cache` keeps the weight in the form in which it is read, so that a
/// later call with the same weight and epilogue need not prepare it.
///
/// # Shapes
/// `x [batch, in_channels, height, width]`, `weight [out_channels, in_channels / groups, kernel, kernel]`; the result
/// is `[batch, out_channels, out_height, out_width]` with `out = (size + 2 * padding - kernel) / stride + 1`, rounded
/// down.
///
/// # Panics
/// If the shapes do not fit each other, the groups do not divide the channels, or the residual or the mask has another
/// data type than `x`.
pub fn conv2d_cached(
    x: Tensor<4>,
    weight: Tensor<4>,
    epilogue: Epilogue,
    options: ConvOptions,
    cache: &ConvCache,
) -> Tensor<4> {
    let bias = epilogue.shift.as_ref().map(Tensor::dims);
    let geometry = Geometry::new(x.dims(), weight.dims(), bias, options);
    run(x, weight, epilogue, geometry, Some(cache))
}

/// Computes a convolution and its epilogue by Burn's operations, each with its own autodiff node. In 16 bits, the scale
/// is folded into the weight before that is rounded.
fn run_reference(x: Tensor<4>, weight: Tensor<4>, epilogue: Epilogue, geometry: Geometry) -> Tensor<4> {
    let Epilogue { scale, shift, residual, activation, mask } = epilogue;
    if let Some(mask) = mask {
        let unmasked = Epilogue { scale, shift, residual, activation, mask: None };
        return run_reference(x, weight, unmasked, geometry) * mask;
    }
    let (channels, device, maps) = (geometry.out_channels, x.device(), x.dtype());
    if weight.dtype() != maps {
        let weight = match scale {
            Some(scale) => weight * scale.reshape([channels, 1, 1, 1]),
            None => weight,
        };
        let shift = shift.unwrap_or_else(|| Tensor::zeros([channels], &device));
        let y = reference(x, weight.cast(maps), None, geometry);
        return affine(y, Tensor::ones([channels], &device), shift, residual, activation);
    }
    match (scale, shift, residual) {
        (None, shift, None) => activation.reference(reference(x, weight, shift, geometry)),
        (scale, shift, residual) => {
            let scale = scale.unwrap_or_else(|| Tensor::ones([channels], &device));
            let shift = shift.unwrap_or_else(|| Tensor::zeros([channels], &device));
            affine(reference(x, weight, None, geometry), scale, shift, residual, activation)
        }
    }
}

/// Computes a convolution and its epilogue: by the fused kernels if they support the tensors, else by Burn's operations
/// in one autodiff node, or in one each if the reference is asked for.
fn run(
    x: Tensor<4>,
    weight: Tensor<4>,
    epilogue: Epilogue,
    geometry: Geometry,
    cache: Option<&ConvCache>,
) -> Tensor<4> {
    if let Some(scale) = &epilogue.scale {
        assert_eq!(scale.dims(), [geometry.out_channels], "conv2d: the scale has the wrong length");
    }
    if let Some(residual) = &epilogue.residual {
        assert_eq!(residual.dims(), geometry.output_dims(), "conv2d: the residual must have the output's shape");
    }
    if let Some(mask) = &epilogue.mask {
        let [_, _, height, width] = geometry.output_dims();
        assert_eq!(mask.dims(), [1, 1, height, width], "conv2d: the mask must have the height and width of the output");
        assert_eq!(mask.dtype(), x.dtype(), "conv2d: the mask must have the data type of x");
    }
    if route::reference() {
        return run_reference(x, weight, epilogue, geometry);
    }
    if !fused_kernel(&x) || !fused_kernel(&weight) {
        return composed::conv(x, weight, epilogue, geometry, cache);
    }
    let Epilogue { scale, shift, residual, activation, mask } = epilogue;
    let parts = EpilogueParts { scale: scale.is_some(), shift: shift.is_some(), residual: residual.is_some() };
    let device = x.device();
    let absent = || Tensor::<1>::empty([0], &device).into_dispatch();
    let y = Tensor::from_dispatch(<Dispatch as ConvOps>::conv(
        x.into_dispatch(),
        weight.into_dispatch(),
        scale.map_or_else(absent, Tensor::into_dispatch),
        shift.map_or_else(absent, Tensor::into_dispatch),
        residual.map_or_else(absent, Tensor::into_dispatch),
        ConvSpec { geometry, maps: None, parts, activation },
    ));
    match mask {
        Some(mask) => y * mask,
        None => y,
    }
}

/// Computes a 3x3 convolution (stride 1, padding 1, one group) of several feature maps stored in one tensor, with the
/// same weights for all maps, followed by an activation. `x`, `weight` and `bias` receive gradients.
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
    // Only the batch and the channels of this geometry are used; the maps have their own heights and widths.
    let options = ConvOptions { stride: 1, padding: 1, groups: 1 };
    let geometry = Geometry::new([batch, in_channels, 1, pixels], weight.dims(), bias_dims, options);
    assert_eq!(geometry.kernel, 3, "conv2d_maps: the kernel must be 3x3");
    let fuses = fused_kernel(&x) && fused_kernel(&weight);
    if !fuses || !winograd::pays_joined(in_channels, &maps) {
        let each = maps.levels.iter().map(|level| {
            let map = x.clone().narrow(2, level.offset, level.height * level.width);
            let map = map.reshape([batch, in_channels, level.height, level.width]);
            let epilogue = Epilogue { shift: bias.clone(), activation, ..Epilogue::default() };
            let geometry = Geometry { height: level.height, width: level.width, ..geometry };
            run(map, weight.clone(), epilogue, geometry, None).flatten(2, 3)
        });
        return Tensor::cat(each.collect(), 2);
    }
    let parts = EpilogueParts { shift: bias.is_some(), ..EpilogueParts::default() };
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
