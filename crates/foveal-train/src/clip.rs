//! Clipping by the norm of all gradients together (torch's `clip_grad_norm_`).

use burn::tensor::Tensor;

/// Keeps the quotient finite for vanishing gradients, as torch does.
const EPSILON: f64 = 1e-6;

/// What gradients of the given norm are multiplied with so that it does not exceed `limit` (0: no limit).
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    if limit > 0.0 { (limit / (norm + EPSILON)).min(1.0) } else { 1.0 }
}

/// The same on the device, `[1]` in and out.
pub fn clip_factor_on_device(norm: Tensor<1>, limit: f64) -> Tensor<1> {
    if limit > 0.0 { (norm + EPSILON).recip().mul_scalar(limit).clamp_max(1.0) } else { norm.ones_like() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn only_long_gradients_are_shortened() {
        assert_eq!(clip_factor(3.0, 0.0), 1.0);
        assert_eq!(clip_factor(3.0, 10.0), 1.0);
        assert!((clip_factor(20.0, 10.0) - 0.5).abs() < 1e-6);
        assert_eq!(clip_factor(0.0, 10.0), 1.0);
    }

    #[test]
    fn the_device_agrees() {
        let device = Device::flex();
        for (norm, limit) in [(3.0, 0.0), (3.0, 10.0), (20.0, 10.0), (0.0, 1.0)] {
            let found: f32 = clip_factor_on_device(Tensor::from_floats([norm as f32], &device), limit).into_scalar();
            assert!((f64::from(found) - clip_factor(norm, limit)).abs() < 1e-6);
        }
    }
}
