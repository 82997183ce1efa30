//! Mean and standard deviation, and the sums that the gradient of a normalisation needs.

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

/// Sums of `g` and of `g * normal`, where `f(gradient, input)` returns the pair `(g, normal)`.
#[inline(always)]
pub(crate) fn gated_sums(grad: &[f32], x: &[f32], f: impl Fn(f32, f32) -> (f32, f32)) -> [f64; 2] {
    const RUN: usize = 1024;
    const LANES: usize = 16;
    let mut total = [0f64; 2];
    for (grad, x) in grad.chunks(RUN).zip(x.chunks(RUN)) {
        let mut lanes = [[0f32; LANES]; 2];
        for (grad, x) in grad.chunks(LANES).zip(x.chunks(LANES)) {
            for (lane, (g, x)) in grad.iter().zip(x).enumerate() {
                let (g, normal) = f(*g, *x);
                lanes[0][lane] += g;
                lanes[1][lane] += g * normal;
            }
        }
        for (total, lanes) in total.iter_mut().zip(lanes) {
            *total += f64::from(lanes.iter().sum::<f32>());
        }
    }
    total
}
