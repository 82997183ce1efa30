//! The loss scale of training in half precision (`train.precision = "f16"`).
//!
//! Many gradients are below 6e-8, the smallest f16 number, and would become 0. The loss is therefore multiplied by a
//! scale before the backward pass, and the gradients are divided by it before they are used (Micikevicius et al., arXiv
//! 1710.03740, section 3.2). The scale grows slowly, and is halved at a step whose loss or gradients are not finite.

use burn::tensor::{Bool, Device, Tensor};

/// The scale of the first step, as in `torch.amp.GradScaler`.
pub(crate) const FIRST_SCALE: f64 = 65536.0;
/// The largest scale, 2^24.
pub(crate) const LARGEST_SCALE: f64 = 16_777_216.0;
/// Number of finite steps in which the scale doubles.
const DOUBLING_STEPS: f64 = 2000.0;
/// Factor of the scale after a step that is not finite.
const BACKOFF: f64 = 0.5;

/// The loss scale. It is a tensor on the device of the losses, so that no device is waited for.
#[derive(Clone, Debug)]
pub(crate) struct LossScaler {
    /// `[1]`, f32, without autodiff.
    scale: Tensor<1>,
}

impl LossScaler {
    /// A scaler with the scale `scale`. `device` may have autodiff or not.
    pub(crate) fn new(scale: f64, device: &Device) -> Self {
        Self { scale: Tensor::full([1], scale, &device.clone().without_autodiff()) }
    }

    /// The present scale, without autodiff: `[1]`.
    pub(crate) fn scale(&self) -> Tensor<1> {
        self.scale.clone()
    }

    /// The present scale as a number. Waits for the device.
    pub(crate) fn read(&self) -> f64 {
        self.scale.clone().into_scalar()
    }

    /// Multiplies a loss by the scale. The loss has autodiff.
    ///
    /// # Shapes
    /// - loss, result: `[1]`
    pub(crate) fn scaled(&self, loss: Tensor<1>) -> Tensor<1> {
        loss * Tensor::from_inner(self.scale())
    }

    /// Divides the norm of gradients of the scaled loss by the scale.
    ///
    /// # Shapes
    /// - norm, result: `[1]`, of the same element type, without autodiff
    pub(crate) fn unscaled(&self, norm: Tensor<1>) -> Tensor<1> {
        let scale = self.scale().cast(norm.dtype());
        norm / scale
    }

    /// Adapts the scale after a step: it grows by `2^(1/2000)` up to 2^24 if loss and gradients were `finite`, and is
    /// halved if not.
    ///
    /// # Shapes
    /// - finite: `[1]`, on the device of the scale
    pub(crate) fn update(&mut self, finite: &Tensor<1, Bool>) {
        let grown = (self.scale() * (1.0 / DOUBLING_STEPS).exp2()).clamp_max(LARGEST_SCALE);
        self.scale = (self.scale() * BACKOFF).mask_where(finite.clone(), grown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(scale: f64, steps: impl IntoIterator<Item = f32>) -> f64 {
        let device = Device::flex();
        let mut scaler = LossScaler::new(scale, &device);
        for loss in steps {
            scaler.update(&Tensor::<1>::from_floats([loss], &device).is_finite());
        }
        scaler.read()
    }

    #[test]
    fn an_overflow_halves_the_scale() {
        assert_eq!(after(FIRST_SCALE, [f32::INFINITY]), 32768.0);
        assert_eq!(after(FIRST_SCALE, [f32::NAN, f32::NEG_INFINITY]), 16384.0);
        assert_eq!(after(FIRST_SCALE, [f32::NAN; 50]), 0.5_f64.powi(34));
    }

    #[test]
    fn the_scale_doubles_in_two_thousand_steps_up_to_its_limit() {
        let doubled = after(FIRST_SCALE, [1.0; 2000]);
        assert!((doubled / (2.0 * FIRST_SCALE) - 1.0).abs() < 1e-3, "{doubled}");
        assert_eq!(after(LARGEST_SCALE, [1.0]), LARGEST_SCALE);
        assert_eq!(after(LARGEST_SCALE * 0.9999, [1.0; 3]), LARGEST_SCALE);
    }

    #[test]
    fn gradients_of_the_scaled_loss_are_those_of_the_loss_times_the_scale() {
        let device = Device::flex().autodiff();
        let scaler = LossScaler::new(1024.0, &device);
        let x = Tensor::<1>::from_floats([3.0], &device).require_grad();
        let gradients = scaler.scaled(x.clone() * 2.0).backward();
        let gradient = x.grad(&gradients).unwrap();
        assert_eq!(gradient.clone().into_scalar::<f32>(), 2048.0);
        assert_eq!(scaler.unscaled(gradient).into_scalar::<f32>(), 2.0);
    }
}
