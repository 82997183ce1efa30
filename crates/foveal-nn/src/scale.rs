//! The factors of pyramid levels, by which the results of a shared layer are multiplied.

use burn::module::Param;
use burn::tensor::{DType, Tensor};
use foveal_kernels::MapSize;

/// The factor of a level, as an operand for tensors with `D` dimensions: `[1, 1, ...]`.
///
/// # Panics
/// If there is no factor for the level.
pub(crate) fn factor<const D: usize>(factors: &Param<Tensor<1>>, level: usize) -> Tensor<D> {
    let count = factors.dims()[0];
    assert!(level < count, "expected a factor for each level, found {count} factors and more levels");
    factors.val().narrow(0, level, 1).reshape([1; D])
}

/// Multiplies the map of each level by its factor.
pub(crate) fn scaled(maps: Vec<Tensor<4>>, factors: &Param<Tensor<1>>) -> Vec<Tensor<4>> {
    maps.into_iter().enumerate().map(|(level, map)| times(map, factor(factors, level))).collect()
}

/// Multiplies the levels in one tensor by their factors.
///
/// # Shapes
/// - maps, result: `[batch, channels, pixels]`, where each channel contains the maps with the sizes `sizes`, each row
///   by row, one after the other
pub(crate) fn scaled_joined(maps: Tensor<3>, sizes: &[MapSize], factors: &Param<Tensor<1>>) -> Tensor<3> {
    let pixels = |size: &MapSize| size.height * size.width;
    let each = sizes.iter().enumerate().map(|(level, size)| factor::<3>(factors, level).expand([1, 1, pixels(size)]));
    times(maps, Tensor::cat(each.collect(), 2))
}

/// The product of a feature map and factors, which are f32, in the data type of the map. For a 16-bit map it is
/// computed in f32, so that the gradient of a factor is not summed in 16 bits.
fn times<const D: usize>(map: Tensor<D>, factors: Tensor<D>) -> Tensor<D> {
    match map.dtype() {
        half @ (DType::F16 | DType::BF16) => (map.cast(DType::F32) * factors).cast(half),
        _ => map * factors,
    }
}
