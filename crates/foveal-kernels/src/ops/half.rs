//! Feature maps of 16-bit numbers, whose statistics are computed in f32.
use burn::tensor::{DType, Tensor};

/// Converts a tensor of 16-bit numbers to f32; other tensors stay as they are.
pub(crate) fn at_least_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}

/// Converts the result of a computation that began with [`at_least_f32`] back to the type `dtype` of its input.
pub(crate) fn cast_back<const D: usize>(y: Tensor<D>, dtype: DType) -> Tensor<D> {
    if y.dtype() == dtype { y } else { y.cast(dtype) }
}
