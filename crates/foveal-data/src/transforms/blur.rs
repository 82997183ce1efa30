//! Gaussian blur.

use foveal_base::{SettingError, check};
use foveal_image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::range::rising;
use super::{PixelTransform, Settings};
use crate::Stream;

/// Blurs the image with a Gaussian. Pixels at the edge of the image are repeated beyond it. Boxes are not changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Blur {
    /// Probability that an image is blurred, from 0 to 1. Default: 0.2.
    pub probability: f32,
    /// Range `[low, high]` of the standard deviation of the Gaussian in pixels, from 0 to 32. Default: `[0.1, 2]`.
    pub sigma: [f32; 2],
}

impl Default for Blur {
    /// The range of torchvision's `GaussianBlur`.
    fn default() -> Self {
        Self { probability: 0.2, sigma: [0.1, 2.0] }
    }
}

impl Settings for Blur {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        rising("sigma", self.sigma, [0.0, 32.0])
    }
}

impl PixelTransform for Blur {
    fn change(&self, image: &mut RgbImage, random: &mut Stream) {
        let [low, high] = self.sigma;
        blur(image, random.range(low, high));
    }
}

/// Number of standard deviations at which the Gaussian ends.
const DEVIATIONS: f64 = 3.0;
/// The weights are multiples of one divided by this number, so that they do not depend on the last bits of the
/// exponential function, and sums of weighted bytes are exact in single precision.
const UNITS: f64 = 65_536.0;
/// Number of channels of a pixel.
const CHANNELS: usize = 3;

/// The weights of the pixels at distances of 0, 1, ... pixels. The weights of both sides add up to 1.
fn weights(sigma: f32) -> Vec<f32> {
    let sigma = f64::from(sigma);
    let radius = (DEVIATIONS * sigma).ceil() as usize;
    let gaussian = |distance: usize| (-0.5 * (distance as f64 / sigma).powi(2)).exp();
    let sum: f64 = 1.0 + 2.0 * (1..=radius).map(gaussian).sum::<f64>();
    let mut units: Vec<f64> = (1..=radius).map(|distance| (gaussian(distance) / sum * UNITS).round()).collect();
    while units.last() == Some(&0.0) {
        units.pop();
    }
    let center = UNITS - 2.0 * units.iter().sum::<f64>();
    std::iter::once(center).chain(units).map(|units| (units / UNITS) as f32).collect()
}

/// Blurs an image: each row of the result is the weighted sum of rows, in which pixels are summed along the row.
fn blur(image: &mut RgbImage, sigma: f32) {
    let weights = weights(sigma);
    let (center, radius) = (weights[0], weights.len() - 1);
    if radius == 0 || image.is_empty() {
        return;
    }
    let (row_length, height) = (image.width() as usize * CHANNELS, image.height() as usize);
    let source = image.as_raw();
    let row = |y: usize| &source[y * row_length..][..row_length];
    let margin = radius * CHANNELS;
    // One row with the pixels at its ends repeated, and the sums along it.
    let mut padded = vec![0.0f32; row_length + 2 * margin];
    let mut sums = vec![0.0f32; row_length];
    let mut blurred = Vec::with_capacity(source.len());
    for y in 0..height {
        let inner = &mut padded[margin..][..row_length];
        inner.iter_mut().zip(row(y)).for_each(|(sum, v)| *sum = center * f32::from(*v));
        for (distance, weight) in weights.iter().enumerate().skip(1) {
            let (above, below) = (row(y.saturating_sub(distance)), row((y + distance).min(height - 1)));
            for ((sum, a), b) in inner.iter_mut().zip(above).zip(below) {
                *sum += weight * f32::from(u16::from(*a) + u16::from(*b));
            }
        }
        for channel in 0..CHANNELS {
            let (first, last) = (padded[margin + channel], padded[margin + row_length - CHANNELS + channel]);
            padded[..margin].iter_mut().skip(channel).step_by(CHANNELS).for_each(|v| *v = first);
            padded[margin + row_length..].iter_mut().skip(channel).step_by(CHANNELS).for_each(|v| *v = last);
        }
        sums.iter_mut().zip(&padded[margin..]).for_each(|(sum, v)| *sum = center * v);
        for (distance, weight) in weights.iter().enumerate().skip(1) {
            let offset = distance * CHANNELS;
            let (left, right) = (&padded[margin - offset..], &padded[margin + offset..]);
            for ((sum, a), b) in sums.iter_mut().zip(left).zip(right) {
                *sum += weight * (a + b);
            }
        }
        blurred.extend(sums.iter().map(|sum| (sum + 0.5) as u8));
    }
    image.copy_from_slice(&blurred);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The weights of a Gaussian of one pixel: `exp(-d^2 / 2)` divided by their sum over -3 to 3, in units of 1/65536.
    const OF_ONE_PIXEL: [f32; 4] = [26_152.0, 15_862.0, 3_539.0, 291.0];

    #[test]
    fn weights_are_those_of_the_gaussian() {
        assert_eq!(weights(1.0), OF_ONE_PIXEL.map(|units| units / 65_536.0));
        assert_eq!(weights(0.0), [1.0]);
        for sigma in [0.05, 0.3, 2.0, 7.7, 32.0] {
            let weights = weights(sigma);
            let sum = weights[0] + 2.0 * weights[1..].iter().sum::<f32>();
            assert!((sum - 1.0).abs() < 1e-6 && weights[1..].iter().rev().is_sorted(), "{sigma}: {weights:?}");
            // The centre makes up for the rounding of all others.
            let rounding = weights.len() as f32 / UNITS as f32;
            assert!(weights.get(1).is_none_or(|next| weights[0] >= next - rounding), "{sigma}: {weights:?}");
        }
    }

    #[test]
    fn a_white_pixel_becomes_the_gaussian() {
        let mut image = RgbImage::new(9, 9);
        image.put_pixel(4, 4, image::Rgb([0, 255, 0]));
        blur(&mut image, 1.0);
        for (x, y, pixel) in image.enumerate_pixels() {
            let weight = |at: u32| OF_ONE_PIXEL.get(at.abs_diff(4) as usize).map_or(0.0, |units| units / 65_536.0);
            let level = (255.0 * weight(x) * weight(y)).round() as u8;
            assert_eq!(pixel.0, [0, level, 0], "{x} {y}");
        }
    }

    proptest! {
        /// Plain images of any size keep their colour, also at the edges, and so do all images without blur.
        #[test]
        fn plain_images_and_a_sigma_of_zero_change_nothing(
            seed in any::<u64>(), width in 1u32..20, height in 1u32..20, color in any::<[u8; 3]>(), sigma in 0f32..9.0,
        ) {
            let plain = RgbImage::from_pixel(width, height, image::Rgb(color));
            let mut same = plain.clone();
            blur(&mut same, sigma);
            prop_assert_eq!(same, plain);
            let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 13) as u8, (y * 11) as u8, 7]));
            let mut same = image.clone();
            Blur { sigma: [0.0, 0.0], ..Blur::default() }.change(&mut same, &mut Stream::new(&[seed]));
            prop_assert_eq!(same, image);
        }

        /// The blur of a transposed image is the transposed blur, within the rounding of the order of the sums.
        #[test]
        fn both_directions_are_blurred_alike(seed in any::<u64>(), sigma in 0.1f32..4.0) {
            let mut random = Stream::new(&[seed]);
            let mut image = RgbImage::from_fn(12, 17, |_, _| image::Rgb([random.bits() as u8, 0, 255]));
            let mut turned = RgbImage::from_fn(17, 12, |x, y| *image.get_pixel(y, x));
            blur(&mut image, sigma);
            blur(&mut turned, sigma);
            for (x, y, pixel) in image.enumerate_pixels() {
                prop_assert!(pixel.0[0].abs_diff(turned.get_pixel(y, x).0[0]) <= 1);
            }
        }
    }
}
