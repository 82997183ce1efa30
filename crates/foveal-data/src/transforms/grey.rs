//! Turns colour images into grey ones.

use foveal_base::{SettingError, check};
use foveal_image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PixelTransform, Settings};
use crate::Stream;

/// Replaces each pixel by its grey level, the luma of ITU-R 601 (`0.299 R + 0.587 G + 0.114 B`), as torchvision's
/// `RandomGrayscale` does. Boxes are not changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grey {
    /// Probability that an image becomes grey, from 0 to 1. Default: 0.1, as in torchvision.
    pub probability: f32,
}

impl Default for Grey {
    fn default() -> Self {
        Self { probability: 0.1 }
    }
}

impl Settings for Grey {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)
    }
}

impl PixelTransform for Grey {
    fn change(&self, image: &mut RgbImage, _random: &mut Stream) {
        image.pixels_mut().for_each(|pixel| pixel.0 = [level(pixel.0); 3]);
    }
}

/// Weights of red, green and blue in units of `2^-16`: those of PIL's conversion from RGB to grey, whose sum is 1.
const WEIGHTS: [u32; 3] = [19_595, 38_470, 7_471];
/// Number of bits after the point of the weights.
const BITS: u32 = 16;

/// The grey level of a pixel.
fn level(pixel: [u8; 3]) -> u8 {
    let sum: u32 = pixel.into_iter().zip(WEIGHTS).map(|(channel, weight)| u32::from(channel) * weight).sum();
    ((sum + (1 << (BITS - 1))) >> BITS) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_pil() {
        // `PIL.Image.new("RGB", (1, 1), color).convert("L").getpixel((0, 0))`.
        for (color, grey) in
            [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([10, 200, 30], 124), ([255; 3], 255)]
        {
            assert_eq!(level(color), grey, "{color:?}");
        }
    }

    #[test]
    fn a_grey_image_stays_as_it_is() {
        let image = RgbImage::from_fn(16, 16, |x, y| image::Rgb([(x * 16 + y) as u8; 3]));
        let mut same = image.clone();
        Grey::default().change(&mut same, &mut Stream::new(&[1]));
        assert_eq!(same, image);
    }
}
