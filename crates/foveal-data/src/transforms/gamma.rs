//! Random gamma correction.

use foveal_base::{SettingError, check};
use foveal_image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::range::rising;
use super::{PixelTransform, Settings};
use crate::Stream;

/// Gamma correction: each channel `c` of 0 to 255 becomes `255 * (c / 255)^gamma`, as in torchvision's `adjust_gamma`.
/// Black and white stay as they are. An exponent above 1 makes all other levels darker, and an exponent below 1 makes
/// them brighter. Boxes are not changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gamma {
    /// Probability that an image is changed, from 0 to 1. Default: 0.5.
    pub probability: f32,
    /// Range `[low, high]` of the exponent, which is log-uniform, from 0.1 to 10. Default: `[0.8, 1.25]`.
    pub gamma: [f32; 2],
}

impl Default for Gamma {
    /// The range of Albumentations' `RandomGamma`, with the upper end at the inverse of the lower one.
    fn default() -> Self {
        Self { probability: 0.5, gamma: [0.8, 1.25] }
    }
}

impl Settings for Gamma {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        rising("gamma", self.gamma, [0.1, 10.0])
    }
}

impl PixelTransform for Gamma {
    fn change(&self, image: &mut RgbImage, random: &mut Stream) {
        let [low, high] = self.gamma.map(f64::from);
        let exponent = low * (high / low).powf(f64::from(random.uniform()));
        let table = table(exponent);
        image.iter_mut().for_each(|level| *level = table[usize::from(*level)]);
    }
}

/// The new level of each level. It is computed in double precision, so that the libraries of different systems, which
/// differ in the last bits of a power, give the same levels.
fn table(exponent: f64) -> [u8; 256] {
    std::array::from_fn(|level| (255.0 * (level as f64 / 255.0).powf(exponent)).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn levels_are_powers() {
        let square = table(2.0);
        // 255 * (128 / 255)^2 = 64.25 and 255 * (200 / 255)^2 = 156.86.
        assert_eq!([0, 128, 200, 255].map(|level: usize| square[level]), [0, 64, 157, 255]);
        // 255 * (64 / 255)^0.5 = 127.75.
        assert_eq!(table(0.5)[64], 128);
    }

    proptest! {
        #[test]
        fn an_exponent_of_one_leaves_the_image_unchanged(seed in any::<u64>()) {
            let image = RgbImage::from_fn(16, 16, |x, y| image::Rgb([(x * 16 + y) as u8; 3]));
            let mut same = image.clone();
            Gamma { gamma: [1.0, 1.0], ..Gamma::default() }.change(&mut same, &mut Stream::new(&[seed]));
            prop_assert_eq!(same, image);
        }

        /// The order of levels, black and white remain, and the exponent stays in its range.
        #[test]
        fn levels_stay_in_order_and_in_the_range(seed in any::<u64>()) {
            let mut found = RgbImage::from_fn(256, 1, |x, _| image::Rgb([x as u8; 3]));
            Gamma { gamma: [0.5, 2.0], ..Gamma::default() }.change(&mut found, &mut Stream::new(&[seed]));
            let levels: Vec<u8> = found.pixels().map(|p| p.0[0]).collect();
            prop_assert!(levels.is_sorted() && levels[0] == 0 && levels[255] == 255);
            let (dark, bright) = (table(2.0), table(0.5));
            prop_assert!((0..256).all(|v| dark[v] <= levels[v] && levels[v] <= bright[v]));
        }
    }
}
