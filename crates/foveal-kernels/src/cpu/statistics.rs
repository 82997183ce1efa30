//! Mean and standard deviation, and the sums that the gradient of a normalisation needs.

/// Mean and inverse standard deviation of values that are normalised together.
#[derive(Clone, Copy, Debug, Default)]
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
        let (mut sums, mut products) = ([0f32; LANES], [0f32; LANES]);
        let (grads, xs) = (grad.as_chunks::<LANES>(), x.as_chunks::<LANES>());
        for (grad, x) in grads.0.iter().zip(xs.0) {
            for lane in 0..LANES {
                let (g, normal) = f(grad[lane], x[lane]);
                sums[lane] += g;
                products[lane] += g * normal;
            }
        }
        for (lane, (g, x)) in grads.1.iter().zip(xs.1).enumerate() {
            let (g, normal) = f(*g, *x);
            sums[lane] += g;
            products[lane] += g * normal;
        }
        total[0] += f64::from(sums.iter().sum::<f32>());
        total[1] += f64::from(products.iter().sum::<f32>());
    }
    total
}
