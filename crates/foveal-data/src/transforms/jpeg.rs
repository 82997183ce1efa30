//! Artefacts of JPEG compression.

use std::io::Cursor;

use foveal_base::{SettingError, check};
use foveal_image::RgbImage;
use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::{DynamicImage, ImageResult};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PixelTransform, Settings};
use crate::Stream;

/// Encodes the image as JPEG with a random quality, without subsampling of colour, and decodes it again. Boxes are not
/// changed. An image with a side above 65535 pixels, the limit of the format, stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Jpeg {
    /// Probability that an image is compressed, from 0 to 1. Default: 0.2.
    pub probability: f32,
    /// Range `[low, high]` of the quality, a whole number from 1 (strongest compression) to 100. Default: `[40, 95]`.
    pub quality: [u8; 2],
}

impl Default for Jpeg {
    fn default() -> Self {
        Self { probability: 0.2, quality: [40, 95] }
    }
}

impl Settings for Jpeg {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        let [low, high] = self.quality;
        let rising = low >= 1 && low <= high && high <= 100;
        check::that(rising, "quality", "[low, high] with 1 <= low <= high <= 100", &self.quality)
    }
}

impl PixelTransform for Jpeg {
    fn change(&self, image: &mut RgbImage, random: &mut Stream) {
        let [low, high] = self.quality;
        let quality = low + random.below(usize::from(high - low) + 1) as u8;
        if image.width().max(image.height()) <= u32::from(u16::MAX) {
            *image = compressed(image, quality).expect("an image of at most 65535 pixels a side can be encoded");
        }
    }
}

fn compressed(image: &RgbImage, quality: u8) -> ImageResult<RgbImage> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image)?;
    Ok(DynamicImage::from_decoder(JpegDecoder::new(Cursor::new(bytes))?)?.into_rgb8())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A grey gradient with a white square.
    fn picture() -> RgbImage {
        RgbImage::from_fn(64, 48, |x, y| {
            let inside = (20..36).contains(&x) && (16..32).contains(&y);
            image::Rgb([if inside { 255 } else { (x + y) as u8 }; 3])
        })
    }

    fn distance(a: &RgbImage, b: &RgbImage) -> f32 {
        let sum: u32 = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        sum as f32 / a.as_raw().len() as f32
    }

    #[test]
    fn lower_quality_changes_more() {
        let changed = [95, 60, 10].map(|quality| distance(&compressed(&picture(), quality).unwrap(), &picture()));
        assert!(0.0 < changed[0] && changed[0] < 3.0, "{changed:?}");
        assert!(changed.is_sorted() && changed[2] < 15.0, "{changed:?}");
    }

    #[test]
    fn a_plain_image_changes_by_rounding_alone() {
        let plain = RgbImage::from_pixel(17, 9, image::Rgb([90; 3]));
        let found = compressed(&plain, 100).unwrap();
        assert_eq!(found.dimensions(), (17, 9));
        assert!(found.as_raw().iter().all(|level| level.abs_diff(90) <= 2), "{:?}", found.get_pixel(0, 0));
    }

    proptest! {
        /// Every quality of the range, and no other, gives the image of some random value.
        #[test]
        fn qualities_are_in_the_range(seed in any::<u64>()) {
            let mut found = picture();
            Jpeg { quality: [50, 52], ..Jpeg::default() }.change(&mut found, &mut Stream::new(&[seed]));
            prop_assert!((50..=52).any(|quality| compressed(&picture(), quality).unwrap() == found));
        }
    }

    #[test]
    fn a_side_above_the_limit_of_the_format_is_left_alone() {
        let long = RgbImage::from_fn(65_536, 1, |x, _| image::Rgb([x as u8; 3]));
        let mut same = long.clone();
        Jpeg::default().change(&mut same, &mut Stream::new(&[1]));
        assert!(same == long);
    }
}
