//! The convolution and its epilogue in Burn's operations, as one autodiff node: for GPUs, and for data types that the
//! fused kernels of the CPUs do not support.
//!
//! Burn's autodiff would keep the result of every operation and mask, scale and transpose gradients one by one. This
//! node keeps only the final result, and masks and scales the gradient in one pass over it. All its operations on maps
//! follow the maps' own layout in memory, which is channels-last behind a convolution on a GPU.
//!
//! Maps may have 16 bits while the parameters have 32. The scale is then folded into the weight in 32 bits, so that the
//! result of the convolution has about the size of the final result, which 16 bits can hold. Shift, residual and
//! activation are computed in 32 bits, except that a shift without residual and activation is added by the convolution
//! in 16 bits. The gradients of weight and shift are rounded to 16 bits, as PyTorch's autocast does, and converted to
//! the data type of the parameter.
mod node;
mod passes;
mod sums;
mod weights;

use burn::backend::Dispatch;
use burn::tensor::{DType, Tensor};

use super::epilogue::Epilogue;
use super::geometry::Geometry;
use crate::ops::elementwise::Activation;
use node::{ComposedConvOps, Inputs, Optional};
use passes::Spec;
use weights::Prepared;

pub use weights::ConvCache;

/// Whether the forward pass runs as the input's gradient of the convolution with the turned weight, which is the same
/// sum.
///
/// Without matrix units for the data type, CubeK's forward pass has a single algorithm for kernels larger than 1x1, the
/// direct one with a thread for each few outputs. The input's gradient also has one by matrix multiplication
/// (`dgrad_im2col`; candidates in `kernel/conv/{forward,backward_data}/tune.rs` of burn-cubecl 0.22.1). On wgpu devices
/// matrix units exist for 16-bit numbers only, and there the forward pass has its own candidates by matrix
/// multiplication. At a stride of 1 and with the padding of half the kernel, the gradient has the size of the map.
fn runs_as_input_gradient(geometry: &Geometry, maps: DType) -> bool {
    let Geometry { kernel, stride, padding, groups, .. } = *geometry;
    maps == DType::F32 && (kernel, stride, padding, groups) == (3, 1, 1, 1)
}

/// Computes `activation(conv(x, weight) * scale + shift + residual) * mask` in one autodiff node. `x`, `weight`, the
/// shift and the residual receive gradients. With a cache, weight, scale and shift are prepared once for several calls.
///
/// # Panics
/// If the residual has another data type than `x`.
pub(super) fn conv(
    x: Tensor<4>,
    weight: Tensor<4>,
    epilogue: Epilogue,
    geometry: Geometry,
    cache: Option<&ConvCache>,
) -> Tensor<4> {
    let Epilogue { scale, shift, residual, activation, mask } = epilogue;
    if let Some(residual) = &residual {
        assert_eq!(residual.dtype(), x.dtype(), "conv2d: the residual must have the data type of x");
    }
    let scale_in_weight = weight.dtype() != x.dtype();
    let turned = runs_as_input_gradient(&geometry, x.dtype());
    let folded_scale = scale.as_ref().filter(|_| scale_in_weight);
    let Prepared { folded, turned } = weights::prepare(&weight, folded_scale, x.dtype(), turned, cache);
    let scale = scale.map(|scale| weights::scale_map(&scale, cache));
    // A bias is all that Burn's convolution can add itself, as a vector.
    let only_bias = turned.is_none()
        && residual.is_none()
        && mask.is_none()
        && (scale.is_none() || scale_in_weight)
        && activation == Activation::None;
    let shift_map = shift.as_ref().filter(|_| !only_bias).map(|shift| weights::shift_map(shift, cache));
    let inputs = Inputs {
        x: x.into_dispatch(),
        weight: weight.into_dispatch(),
        shift: Optional::from(shift.map(Tensor::into_dispatch)),
        residual: Optional::from(residual.map(Tensor::into_dispatch)),
        scale: Optional::from(scale.map(Tensor::into_dispatch)),
        shift_map: Optional::from(shift_map.map(Tensor::into_dispatch)),
        mask: Optional::from(mask.map(Tensor::into_dispatch)),
        folded: Optional::from(folded.map(Tensor::into_dispatch)),
        turned: Optional::from(turned.map(Tensor::into_dispatch)),
    };
    let spec = Spec { geometry, activation, scale_in_weight, only_bias };
    Tensor::from_dispatch(<Dispatch as ComposedConvOps>::composed_conv(inputs, spec))
}

#[cfg(test)]
mod tests;
