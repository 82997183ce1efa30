//! Mean and standard deviation of values that are normalised together.

/// Mean and inverse standard deviation of values that are normalised together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statistics {
    mean: f32,
    /// Inverse of the standard deviation.
    pub(crate) scale: f32,
}

impl Statistics {
    /// Statistics of values with the given mean and variance; `eps` is added to the variance.
    pub(crate) fn new(mean: f32, var: f64, eps: f64) -> Self {
        Self { mean, scale: (1.0 / (var + eps).sqrt()) as f32 }
    }

    /// `x` normalised: minus the mean, divided by the standard deviation.
    #[inline(always)]
    pub(crate) fn normal(self, x: f32) -> f32 {
        (x - self.mean) * self.scale
    }
}
