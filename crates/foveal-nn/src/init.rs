//! Seeded initial weights, made on the host.
//!
//! Device generators differ from backend to backend; a host generator gives the same model for the same seed
//! on every device, which is what lets runs on two devices be compared step by step.

use burn::tensor::{Device, Tensor, TensorData};

/// The values that an [`Init`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Random,
    Zeros,
    /// One zero in place of each tensor.
    Count,
}

/// A stream of random initial weights, which depends on the seed and on the order of the calls alone.
#[derive(Debug, Clone)]
pub struct Init {
    state: u64,
    mode: Mode,
    /// Numbers asked for so far, as a float: no product of sizes overflows it.
    asked: f64,
}

impl Init {
    /// A stream that starts at `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed ^ 0x6A09_E667_F3BC_C908, mode: Mode::Random, asked: 0.0 }
    }

    /// A stream that counts the weights of a network without making them: every tensor it returns has one element.
    pub fn counting() -> Self {
        Self { mode: Mode::Count, ..Self::seeded(0) }
    }

    /// A stream of zeros, for a network whose weights are loaded or only looked at.
    pub fn zeros() -> Self {
        Self { mode: Mode::Zeros, ..Self::seeded(0) }
    }

    /// The number of values of the tensors asked for so far.
    pub fn asked(&self) -> f64 {
        self.asked
    }

    /// The next 64 bits of SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number uniform in (0, 1), never 0, so that its logarithm is finite.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// A tensor whose values, in row-major order, are drawn one after the other.
    fn tensor<const D: usize>(
        &mut self,
        shape: [usize; D],
        device: &Device,
        mut draw: impl FnMut(&mut Self) -> f64,
    ) -> Tensor<D> {
        self.asked += shape.iter().map(|n| *n as f64).product::<f64>();
        match self.mode {
            Mode::Count => Tensor::zeros([1; D], device),
            Mode::Zeros => Tensor::zeros(shape, device),
            Mode::Random => {
                let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|_| draw(self) as f32).collect();
                Tensor::from_data(TensorData::new(values, shape), device)
            }
        }
    }

    /// A tensor of normal numbers with mean 0 and standard deviation `std` (the Box-Muller transform).
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], std: f64, device: &Device) -> Tensor<D> {
        self.tensor(shape, device, |s| {
            let (radius, angle) = ((-2.0 * s.unit().ln()).sqrt(), std::f64::consts::TAU * s.unit());
            std * radius * angle.cos()
        })
    }

    /// Weights `[out_channels, in_channels / groups, kernel, kernel]` by He's normal initialisation with the gain of a
    /// ReLU and `fan_out = out_channels * kernel^2`, as torchvision's ResNet has them (He et al., arXiv 1502.01852).
    pub fn kaiming_normal_fan_out(&mut self, shape: [usize; 4], device: &Device) -> Tensor<4> {
        let fan_out = (shape[0] * shape[2] * shape[3]) as f64;
        self.normal(shape, (2.0 / fan_out).sqrt(), device)
    }

    /// Weights `[out_channels, in_channels / groups, kernel, kernel]` by He's uniform initialisation with gain 1
    /// (torch's `a = 1`) and `fan_in = in_channels / groups * kernel^2`, as torchvision's feature pyramid has them.
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
    fn deviations_are_those_asked_for() {
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
