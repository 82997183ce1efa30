//! Tensors of 16-bit floating-point numbers, whose sums are computed in `f32`.
use burn::tensor::{DType, Tensor};

/// The data type that sums over values of the type `dtype` are computed in: `f32` for types of 16 bits, which cannot
/// hold the sums, and `dtype` for all others.
pub(crate) fn computed_in(dtype: DType) -> DType {
    if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype }
}

/// Converts a tensor of 16-bit floating-point numbers (`f16` or `bf16`), of any shape, to `f32`. Tensors of other types
/// stay as they are. Gradients pass through the conversion.
pub fn at_least_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let dtype = computed_in(x.dtype());
    cast_to(x, dtype)
}

/// Converts a tensor to the data type `dtype`, if it has another one.
pub(crate) fn cast_to<const D: usize>(y: Tensor<D>, dtype: DType) -> Tensor<D> {
    if y.dtype() == dtype { y } else { y.cast(dtype) }
}
