//! Seeded initial weights, drawn on the host.
//!
//! The random generators of the backends differ. A generator on the host gives the same model for the same seed on
//! every device, so that runs on two devices can be compared step by step.

use burn::tensor::{Device, Tensor, TensorData};

/// The kind of values that an [`Init`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Random,
    Zeros,
    /// Every tensor is a single zero; only the number of requested values is counted.
    Count,
}

/// A stream of initial weights. The values depend only on the seed and on the order of the calls, not on the device.
#[derive(Debug, Clone)]
pub struct Init {
    state: u64,
    mode: Mode,
    /// Number of values requested so far, as a float, which no product of sizes overflows.
    requested: f64,
}

impl Init {
    /// A stream of random weights for the given seed.
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed ^ 0x6A09_E667_F3BC_C908, mode: Mode::Random, requested: 0.0 }
    }

    /// A stream that only counts the weights of a network ([`Init::requested`]): every tensor that it returns has a
    /// single element, whatever shape was requested.
    pub fn counting() -> Self {
        Self { mode: Mode::Count, ..Self::seeded(0) }
    }

    /// A stream of zeros, for a network whose weights are loaded afterwards or whose structure alone is used.
    pub fn zeros() -> Self {
        Self { mode: Mode::Zeros, ..Self::seeded(0) }
    }

    /// The number of values of all tensors that were requested so far.
    pub fn requested(&self) -> f64 {
        self.requested
    }

    /// The next 64 bits of SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number with uniform distribution in (0, 1). It is never 0, so that its logarithm is finite.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// A tensor whose values are drawn one after the other in row-major order.
    fn tensor<const D: usize>(
        &mut self,
        shape: [usize; D],
        device: &Device,
        mut draw: impl FnMut(&mut Self) -> f64,
    ) -> Tensor<D> {
        self.requested += shape.iter().map(|n| *n as f64).product::<f64>();
        match self.mode {
            Mode::Count => Tensor::zeros([1; D], device),
            Mode::Zeros => Tensor::zeros(shape, device),
            Mode::Random => {
                let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|_| draw(self) as f32).collect();
                Tensor::from_data(TensorData::new(values, shape), device)
            }
        }
    }

    /// Draws a tensor of the given shape from a normal distribution with mean 0 and standard deviation `std`, by the
    /// Box-Muller transform.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], std: f64, device: &Device) -> Tensor<D> {
        self.tensor(shape, device, |s| {
            let (radius, angle) = ((-2.0 * s.unit().ln()).sqrt(), std::f64::consts::TAU * s.unit());
            std * radius * angle.cos()
        })
    }

    /// Draws the weights of a convolution by He's normal initialisation with the gain of a ReLU and
    /// `fan_out = out_channels * kernel^2`, as in torchvision's ResNet (He et al., arXiv 1502.01852).
    ///
    /// # Shapes
    /// - shape: `[out_channels, in_channels / groups, kernel, kernel]`
    pub fn kaiming_normal_fan_out(&mut self, shape: [usize; 4], device: &Device) -> Tensor<4> {
        let fan_out = (shape[0] * shape[2] * shape[3]) as f64;
        self.normal(shape, (2.0 / fan_out).sqrt(), device)
    }

    /// Draws the weights of a convolution by He's uniform initialisation with gain 1 (torch's `a = 1`) and
    /// `fan_in = in_channels / groups * kernel^2`, as in torchvision's feature pyramid (He et al., arXiv 1502.01852).
    ///
    /// # Shapes
    /// - shape: `[out_channels, in_channels / groups, kernel, kernel]`
    pub fn kaiming_uniform_fan_in(&mut self, shape: [usize; 4], device: &Device) -> Tensor<4> {
        let bound = (3.0 / (shape[1] * shape[2] * shape[3]) as f64).sqrt();
        self.tensor(shape, device, |s| (2.0 * s.unit() - 1.0) * bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(t: Tensor<4>) -> (f64, f64) {
        let v: Vec<f32> = t.into_data().try_to_vec().unwrap();
        let mean = v.iter().map(|&x| f64::from(x)).sum::<f64>() / v.len() as f64;
        let var = v.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / v.len() as f64;
        (mean, var.sqrt())
    }

    #[test]
    fn deviations_are_the_requested_ones() {
        let device = Device::flex();
        let shape = [64, 32, 3, 3];
        let (mean, std) = moments(Init::seeded(1).normal(shape, 0.01, &device));
        assert!(mean.abs() < 3e-4 && (std - 0.01).abs() < 3e-4, "{mean} {std}");
        let (_, std) = moments(Init::seeded(1).kaiming_normal_fan_out(shape, &device));
        assert!((std / (2.0f64 / (64.0 * 9.0)).sqrt() - 1.0).abs() < 0.02, "{std}");
        let (_, std) = moments(Init::seeded(1).kaiming_uniform_fan_in(shape, &device));
        assert!((std / (1.0f64 / (32.0 * 9.0)).sqrt() - 1.0).abs() < 0.02, "{std}");
    }

    #[test]
    fn a_seed_gives_one_model() {
        let device = Device::flex();
        let draw = |seed| Init::seeded(seed).normal([2, 2, 3, 3], 1.0, &device).into_data();
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
