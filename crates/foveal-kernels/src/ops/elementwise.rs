//! The activation, and the gradient through an activation and a scale; several operations share them.
use burn::tensor::{Tensor, activation};

use crate::cpu::CpuTensor;
use crate::cpu::pixels::{Parts, map_pixels, map_values};

/// Activation that an operation applies to each element of its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Identity: the result is not changed. The default.
    #[default]
    None,
    /// ReLU, `max(x, 0)`; NaN stays NaN.
    Relu,
}

impl Activation {
    /// Applies the activation to `x` by Burn's operation.
    pub(crate) fn reference<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::None => x,
            Self::Relu => activation::relu(x),
        }
    }
}

/// `max(x, 0)`, except that NaN stays NaN, so that divergence of a network is not hidden.
#[inline(always)]
pub(crate) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// The gradient through a ReLU with the output `y` and a scale per channel: `grad * scale` where `y` is positive, 0
/// elsewhere.
///
/// Without `y` there is no ReLU, and without `scale` the factor is 1.
///
/// # Shapes
/// `grad`, `y` and the result `[batch, channels, height, width]`, `scale` `[channels]`.
pub(crate) fn masked_scaled<T: CpuTensor>(grad: T, y: Option<&T>, scale: Option<&T>) -> T {
    let (y, scale) = (y.cloned().map(T::into_nhwc), scale.cloned().map(T::contiguous));
    let parts = Parts::whole(&grad);
    match (y.as_ref().map(T::f32s), scale.as_ref().map(T::f32s)) {
        (None, None) => grad,
        (Some(y), None) => map_values(grad, [y], |g, [y]| if y > 0.0 { g } else { 0.0 }),
        (None, Some(scale)) => map_pixels(grad, [], &parts, [scale], |g, [], [a]| g * a),
        (Some(y), Some(scale)) => {
            map_pixels(grad, [y], &parts, [scale], |g, [y], [a]| if y > 0.0 { g * a } else { 0.0 })
        }
    }
}
