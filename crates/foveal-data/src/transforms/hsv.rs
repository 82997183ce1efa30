//! Random changes of hue, saturation and value, in fixed-point numbers.

use foveal_base::{SettingError, check};
use foveal_image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PixelTransform, Settings};
use crate::Stream;

/// Changes hue, saturation and value of all pixels by three random amounts, as in Ultralytics' `RandomHSV`. Grey pixels
/// stay grey. Boxes are not changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hsv {
    /// Probability that the colours of an image are changed, from 0 to 1. Default: 1.
    pub probability: f32,
    /// Change of hue, from 0 to 0.5: the hue is shifted by a random fraction of the colour circle from `-hue` to `hue`.
    /// Default: 0.015.
    pub hue: f32,
    /// Change of saturation, from 0 to 1: the saturation is multiplied by a random factor from `1 - saturation` to
    /// `1 + saturation`. Default: 0.7.
    pub saturation: f32,
    /// Change of value (brightness), from 0 to 1: the value is multiplied by a random factor from `1 - value` to
    /// `1 + value`. Default: 0.4.
    pub value: f32,
}

impl Default for Hsv {
    /// The gains `hsv_h`, `hsv_s` and `hsv_v` of Ultralytics' default configuration.
    fn default() -> Self {
        Self { probability: 1.0, hue: 0.015, saturation: 0.7, value: 0.4 }
    }
}

impl Settings for Hsv {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        check::that((0.0..=0.5).contains(&self.hue), "hue", "a number from 0 to 0.5", &self.hue)?;
        check::fraction("saturation", self.saturation)?;
        check::fraction("value", self.value)
    }
}

impl PixelTransform for Hsv {
    fn change(&self, image: &mut RgbImage, random: &mut Stream) {
        let mut amount = |spread: f32| random.range(-spread, spread);
        let (turn, saturation, value) = (amount(self.hue), amount(self.saturation), amount(self.value));
        let change = Change::new(turn, 1.0 + saturation, 1.0 + value);
        image.pixels_mut().for_each(|pixel| pixel.0 = change.pixel(pixel.0));
    }
}

/// Number of bits after the point of a hue, whose unit is a sixth of the colour circle.
const HUE_BITS: u32 = 12;
/// A sixth of the colour circle.
const SIXTH: i32 = 1 << HUE_BITS;
/// The whole colour circle.
const CIRCLE: i32 = 6 * SIXTH;
/// Number of bits after the point of value and chroma, whose unit is a level of a channel (0 to 255).
const LEVEL_BITS: u32 = 10;
/// Number of bits after the point of factors.
const FACTOR_BITS: u32 = 20;

/// One change of hue, saturation and value, as tables in fixed-point numbers. Results equal those of exact arithmetic,
/// rounded to whole levels, but for values that are within 0.1 of the middle between two levels.
struct Change {
    /// Shift of the hue, from 0 to below [`CIRCLE`].
    turn: i32,
    /// The new value of each value.
    value: [i32; 256],
    /// The factor of the chroma (the difference between the largest and the smallest channel) of each value.
    chroma: [i32; 256],
    /// One divided by each chroma; 0 for 0.
    inverse: [i32; 256],
}

impl Change {
    /// The change that shifts the hue by `turn` of the colour circle, and multiplies saturation and value by factors
    /// from 0 to 2.
    fn new(turn: f32, saturation: f32, value: f32) -> Self {
        let level = (1 << LEVEL_BITS) as f32;
        let factor = (1 << FACTOR_BITS) as f32;
        let values: [f32; 256] = std::array::from_fn(|v| (v as f32 * value).min(255.0));
        Self {
            turn: ((turn * CIRCLE as f32).round() as i32).rem_euclid(CIRCLE),
            value: values.map(|v| (v * level).round() as i32),
            chroma: std::array::from_fn(|v| {
                if v == 0 { 0 } else { (saturation * values[v] / v as f32 * factor).round() as i32 }
            }),
            inverse: std::array::from_fn(|c| if c == 0 { 0 } else { (factor / c as f32).round() as i32 }),
        }
    }

    /// The colour of a pixel after the change.
    fn pixel(&self, pixel: [u8; 3]) -> [u8; 3] {
        let [r, g, b] = pixel.map(i32::from);
        let (high, low) = (r.max(g).max(b), r.min(g).min(b));
        let spread = high - low;
        // The saturation ends at 1, where the chroma equals the value.
        let value = self.value[high as usize];
        let chroma = shifted(spread * self.chroma[high as usize], FACTOR_BITS - LEVEL_BITS).min(value);
        let (base, difference) = match high {
            _ if high == r => (0, g - b),
            _ if high == g => (2 * SIXTH, b - r),
            _ => (4 * SIXTH, r - g),
        };
        let hue = base + shifted(difference * self.inverse[spread as usize], FACTOR_BITS - HUE_BITS) + self.turn;
        let hue = hue.rem_euclid(CIRCLE);
        // A channel is value - chroma * k, where k depends on the hue alone.
        [5, 3, 1].map(|offset| {
            let at = hue + offset * SIXTH;
            let at = if at >= CIRCLE { at - CIRCLE } else { at };
            let k = at.min(4 * SIXTH - at).clamp(0, SIXTH);
            shifted((value << HUE_BITS) - chroma * k, HUE_BITS + LEVEL_BITS) as u8
        })
    }
}

/// Divides by `2^bits` and rounds to the nearest integer, halves upwards.
fn shifted(number: i32, bits: u32) -> i32 {
    (number + (1 << (bits - 1))) >> bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color;
    use proptest::prelude::*;

    #[test]
    fn colours_change_as_computed_by_hand() {
        for (turn, saturation, value, from, to) in [
            (1.0 / 3.0, 1.0, 1.0, [255, 0, 0], [0, 255, 0]),
            (-1.0 / 3.0, 1.0, 1.0, [255, 0, 0], [0, 0, 255]),
            (0.5, 1.0, 1.0, [255, 0, 0], [0, 255, 255]),
            // The chroma 150 becomes 75; green is two thirds of it below the value 200.
            (0.0, 0.5, 1.0, [200, 100, 50], [200, 150, 125]),
            // The chroma would be 300 and ends at the value 200.
            (0.0, 2.0, 1.0, [200, 100, 50], [200, 67, 0]),
            (0.0, 1.0, 0.5, [200, 100, 50], [100, 50, 25]),
            // The value would be 300 and ends at 255, 1.275 times the old one.
            (0.0, 1.0, 1.5, [200, 120, 40], [255, 153, 51]),
            (0.3, 2.0, 1.2, [70, 70, 70], [84, 84, 84]),
            (0.3, 0.0, 1.0, [200, 100, 50], [200, 200, 200]),
            (0.3, 2.0, 0.0, [200, 100, 50], [0, 0, 0]),
        ] {
            let found = Change::new(turn, saturation, value).pixel(from);
            assert_eq!(found, to, "{turn} {saturation} {value} {from:?}");
        }
    }

    #[test]
    fn no_change_is_the_identity_for_all_colours() {
        let change = Change::new(0.0, 1.0, 1.0);
        for code in 0..1u32 << 24 {
            let [_, r, g, b] = code.to_be_bytes();
            assert_eq!(change.pixel([r, g, b]), [r, g, b]);
        }
    }

    proptest! {
        /// The fixed-point result is that of single precision within one level.
        #[test]
        fn results_are_those_of_floats(
            pixel in any::<[u8; 3]>(), turn in -0.5f32..0.5, saturation in 0f32..2.0, value in 0f32..2.0,
        ) {
            let found = Change::new(turn, saturation, value).pixel(pixel);
            let [h, s, v] = color::hsv(pixel.map(f32::from));
            let hue = (h + turn).rem_euclid(1.0);
            let wanted = color::rgb([hue, (s * saturation).min(1.0), (v * value).min(255.0)]);
            for (found, wanted) in found.into_iter().zip(wanted) {
                prop_assert!((f32::from(found) - wanted).abs() < 0.65, "{:?} {}", pixel, wanted);
            }
        }

        #[test]
        fn gains_of_zero_leave_the_image_unchanged(seed in any::<u64>()) {
            let image = RgbImage::from_fn(9, 7, |x, y| image::Rgb([(x * 28) as u8, (y * 36) as u8, 90]));
            let mut same = image.clone();
            Hsv { hue: 0.0, saturation: 0.0, value: 0.0, ..Hsv::default() }.change(&mut same, &mut Stream::new(&[seed]));
            prop_assert_eq!(same, image);
        }
    }
}
