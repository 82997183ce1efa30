//! Gradient clipping by the norm of all gradients together (`torch.nn.utils.clip_grad_norm_`), and the flag that skips
//! an update with values that are not finite.

use burn::tensor::{Bool, DType, Tensor};
use foveal_kernels::{clip, has_update_kernels};

use super::scale::LossScaler;

/// Added to the norm before the division, as in torch, so that the factor stays finite for gradients of zero.
const EPSILON: f64 = 1e-6;

/// How an optimizer update treats its gradients: the factor of clipping, and whether the update is applied at all. Both
/// are tensors on the gradients' device, so that no device is waited for.
#[derive(Clone, Debug)]
pub struct Clipping {
    /// `[1]`: factor by which all gradients are multiplied. It is below 1 where their norm exceeds the limit, and else
    /// 1; gradients of a scaled loss are divided by the scale as well.
    pub factor: Tensor<1>,
    /// `[1]`: whether loss and gradient norm are finite, in training without a loss scale those of all steps so far. If
    /// not, the update changes nothing.
    pub finite: Tensor<1, Bool>,
}

impl Clipping {
    /// Clips gradients of the L2 norm `norm` to `limit` (0 means no limit), and skips the update if `loss` or `norm`,
    /// rounded to f32, is not finite.
    ///
    /// # Shapes
    /// - loss, norm: `[1]`
    pub fn new(loss: Tensor<1>, norm: Tensor<1>, limit: f64) -> Self {
        if [&loss, &norm].into_iter().all(|tensor| has_update_kernels(&tensor.clone().into_dispatch())) {
            let (factor, finite) = clip(loss, norm, limit as f32, EPSILON as f32);
            return Self { factor, finite };
        }
        let finite = loss.is_finite().bool_and(norm.clone().cast(DType::F32).is_finite());
        Self { factor: clip_factor(norm, limit), finite }
    }

    /// The same clipping for gradients of a loss that was multiplied by the scale of `scaler`. The loss and the norm
    /// that this clipping was made from were not.
    #[must_use]
    pub(crate) fn of_scaled(self, scaler: &LossScaler) -> Self {
        Self { factor: scaler.unscaled(self.factor), ..self }
    }
}

/// The factor by which gradients of the L2 norm `norm` are multiplied, so that their norm is at most `limit`:
/// `min(1, limit / (norm + 1e-6))` as in `torch.nn.utils.clip_grad_norm_`. 0 means no limit, and the factor is 1.
///
/// # Shapes
/// - norm and result: `[1]`, of the same element type
pub fn clip_factor(norm: Tensor<1>, limit: f64) -> Tensor<1> {
    if limit > 0.0 { (norm.full_like(limit) / (norm + EPSILON)).clamp_max(1.0) } else { norm.ones_like() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn factor(norm: f64, limit: f64, dtype: DType) -> f64 {
        let norm = Tensor::from_data(TensorData::new(vec![norm], [1]), (&Device::flex(), dtype));
        clip_factor(norm, limit).into_scalar()
    }

    #[test]
    fn only_long_gradients_are_shortened() {
        for dtype in [DType::F64, DType::F32] {
            assert_eq!(factor(3.0, 0.0, dtype), 1.0);
            assert_eq!(factor(3.0, 10.0, dtype), 1.0);
            assert!((factor(20.0, 10.0, dtype) - 0.5).abs() < 1e-6);
            assert_eq!(factor(0.0, 10.0, dtype), 1.0);
        }
    }

    #[test]
    fn on_the_host_it_is_rounded_as_f64() {
        for (norm, limit) in [(20.0, 10.0), (1.7, 0.1), (1e9, 3.3), (0.1, 0.1)] {
            assert_eq!(factor(norm, limit, DType::F64), (limit / (norm + EPSILON)).min(1.0));
        }
    }

    #[test]
    fn an_update_is_masked_where_loss_or_norm_is_not_finite() {
        let scalar = |value: f64| Tensor::<1>::from_floats([value as f32], &Device::flex());
        let finite = |loss, norm| Clipping::new(scalar(loss), scalar(norm), 1.0).finite.into_scalar::<bool>();
        assert!(finite(2.0, 3.0));
        assert!(!finite(f64::NAN, 3.0) && !finite(2.0, f64::INFINITY) && !finite(f64::NEG_INFINITY, f64::NAN));
    }

    #[test]
    fn gradients_of_a_scaled_loss_are_clipped_by_their_own_norm() {
        let device = Device::flex();
        let scaler = LossScaler::new(1024.0, &device);
        for dtype in [DType::F64, DType::F32] {
            let factor = |norm: f64, limit| -> f64 {
                // The norm of the gradients of the scaled loss.
                let scaled = Tensor::from_data(TensorData::new(vec![norm * 1024.0], [1]), (&device, dtype));
                let loss = Tensor::<1>::from_floats([1.0], &device);
                Clipping::new(loss, scaler.unscaled(scaled), limit).of_scaled(&scaler).factor.into_scalar()
            };
            assert_eq!(factor(20.0, 0.0), 1.0 / 1024.0);
            assert!((factor(20.0, 10.0) * 1024.0 - 0.5).abs() < 1e-6);
        }
    }
}
