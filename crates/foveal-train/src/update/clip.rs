//! Clipping by the norm of all gradients together (torch's `clip_grad_norm_`), and the mask of an update.

use burn::tensor::{Bool, DType, Tensor};

/// Keeps the quotient finite for vanishing gradients, as torch does.
const EPSILON: f64 = 1e-6;

/// What an update does with its gradients. Both are tensors, so that no device is waited for.
#[derive(Clone, Debug)]
pub struct Clipping {
    /// `[1]`: the factor of all gradients, which makes their norm the limit where it is larger.
    pub factor: Tensor<1>,
    /// `[1]`: whether loss and norm are finite. Where they are not, the update changes nothing.
    pub finite: Tensor<1, Bool>,
}

impl Clipping {
    /// Clips gradients of the given norm to `limit` (0: no limit), and masks the update where `loss` or `norm`, rounded
    /// to f32, is not finite.
    ///
    /// # Shapes
    /// - loss, norm: `[1]`
    pub fn new(loss: Tensor<1>, norm: Tensor<1>, limit: f64) -> Self {
        let finite = loss.is_finite().bool_and(norm.clone().cast(DType::F32).is_finite());
        Self { factor: clip_factor(norm, limit), finite }
    }
}

/// The factor of gradients whose norm is to be at most `limit` (0: no limit).
///
/// # Shapes
/// - norm and result: `[1]`, of one precision
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
}
