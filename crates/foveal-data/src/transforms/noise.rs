//! Gaussian noise.

use std::f64::consts::TAU;
use std::sync::OnceLock;

use foveal_base::{SettingError, check};
use foveal_image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::range::rising;
use super::{PixelTransform, Settings};
use crate::Stream;

/// Adds Gaussian noise to each channel of each pixel, rounded to whole levels and limited to 0 to 255. Values beyond
/// 3.67 standard deviations do not occur. Boxes are not changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// Probability that an image gets noise, from 0 to 1. Default: 0.2.
    pub probability: f32,
    /// Range `[low, high]` of the standard deviation in levels of a channel, from 0 to 128. Default: `[2, 10]`.
    pub std: [f32; 2],
}

impl Default for Noise {
    fn default() -> Self {
        Self { probability: 0.2, std: [2.0, 10.0] }
    }
}

/// Number of random bits of a value of the normal distribution.
const BITS: u32 = 12;
/// Number of different values of the normal distribution.
const VALUES: usize = 1 << BITS;
/// Number of values that one random number of 64 bits gives.
const VALUES_PER_DRAW: usize = 5;

impl Settings for Noise {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        rising("std", self.std, [0.0, 128.0])
    }
}

impl PixelTransform for Noise {
    fn change(&self, image: &mut RgbImage, random: &mut Stream) {
        let [low, high] = self.std;
        let std = random.range(low, high);
        let noise: Vec<i16> = quantiles().iter().map(|z| (z * std).round() as i16).collect();
        for channels in image.chunks_mut(VALUES_PER_DRAW) {
            let mut bits = random.bits();
            for channel in channels {
                let index = bits as usize % VALUES;
                bits >>= BITS;
                *channel = (i16::from(*channel) + noise[index]).clamp(0, 255) as u8;
            }
        }
    }
}

/// The quantiles `(i + 1/2) / VALUES` of the standard normal distribution, which are equally likely values of it.
fn quantiles() -> &'static [f32] {
    static TABLE: OnceLock<Vec<f32>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut upper: Vec<f32> = Vec::with_capacity(VALUES / 2);
        let mut z = 0.0;
        for i in VALUES / 2..VALUES {
            let wanted = (i as f64 + 0.5) / VALUES as f64;
            z = quantile(wanted, z);
            upper.push(z as f32);
        }
        upper.iter().rev().map(|z| -z).chain(upper.iter().copied()).collect()
    })
}

/// The quantile `p` of the standard normal distribution, at least 1/2, by Newton's method from a smaller one.
fn quantile(p: f64, smaller: f64) -> f64 {
    let mut z = smaller;
    for _ in 0..50 {
        let density = (-z * z / 2.0).exp() / TAU.sqrt();
        let step = (p - cumulative(z, density)) / density;
        z += step;
        if step.abs() < 1e-9 {
            break;
        }
    }
    z
}

/// The cumulative normal distribution at `z`, by the series of Marsaglia, "Evaluating the Normal Distribution", Journal
/// of Statistical Software 11(4), 2004.
fn cumulative(z: f64, density: f64) -> f64 {
    let (mut sum, mut term, mut odd) = (z, z, 1.0);
    while term > 1e-17 * sum {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    0.5 + sum * density
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_are_those_of_tables() {
        // Quantiles of the standard normal distribution, from printed tables.
        for (p, z) in [(0.5, 0.0), (0.841_344_746, 1.0), (0.975, 1.959_964), (0.999, 3.090_232)] {
            assert!((quantile(p, 0.0) - z).abs() < 1e-6, "{p}");
        }
        let all = quantiles();
        assert_eq!(all.len(), VALUES);
        assert!(all.is_sorted() && (all[VALUES - 1] - 3.668).abs() < 0.01, "{}", all[VALUES - 1]);
        let variance: f32 = all.iter().map(|z| z * z).sum::<f32>() / VALUES as f32;
        assert!((variance - 1.0).abs() < 0.002, "{variance}");
    }

    #[test]
    fn noise_has_its_mean_and_standard_deviation() {
        let mut found = RgbImage::from_pixel(200, 200, image::Rgb([128; 3]));
        Noise { std: [8.0, 8.0], ..Noise::default() }.change(&mut found, &mut Stream::new(&[3]));
        let differences: Vec<f64> = found.as_raw().iter().map(|v| f64::from(*v) - 128.0).collect();
        let n = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let std = (differences.iter().map(|d| d * d).sum::<f64>() / n).sqrt();
        // The standard deviation of the mean is 8 / sqrt(120000) = 0.023, that of the standard deviation 0.016.
        assert!(mean.abs() < 0.12 && (std - 8.0).abs() < 0.1, "{mean} {std}");
        // Neighbouring channels are independent.
        let product = differences.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / n;
        assert!(product.abs() < 1.0, "{product}");
    }

    proptest! {
        #[test]
        fn a_standard_deviation_of_zero_leaves_the_image_unchanged(seed in any::<u64>()) {
            let image = RgbImage::from_fn(16, 16, |x, y| image::Rgb([(x * 16 + y) as u8; 3]));
            let mut same = image.clone();
            Noise { std: [0.0, 0.0], ..Noise::default() }.change(&mut same, &mut Stream::new(&[seed]));
            prop_assert_eq!(same, image);
        }
    }
}
