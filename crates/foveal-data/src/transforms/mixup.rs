//! Blends two images.

use foveal_base::{SettingError, check};
use foveal_image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::collage::{Placement, Window, fitted};
use super::range::rising;
use super::{Context, SampleTransform, Settings, Working};
use crate::{DataError, Stream};

/// Blends the image with a random image of the data set and keeps the objects of both, as YOLOX does (Ge et al., arXiv
/// 2107.08430, section 2.1, after Zhang et al., arXiv 1902.04103). All objects count fully in the loss, whatever the
/// weights of the images are.
///
/// The other image is resized to the largest size that fits into the first one, times a random factor, without a change
/// of its proportions, and left and right of it are swapped with the probability `data.augment.flip_horizontal`. It
/// lies at a random place, and is cropped if it is larger than the first one. Where it does not cover the first image,
/// the first image is blended with the mean colour. The other image is as in its file: transforms earlier in the list
/// change the first image alone.
///
/// This is a strong transform, which `data.augment.close_epochs` leaves out in the last epochs. If `data.on_error` is
/// `skip` and none of eleven other images that are tried can be loaded, the image stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mixup {
    /// Probability that an image is blended with another, from 0 to 1. Default: 0.5.
    pub probability: f32,
    /// Range `[low, high]` of the uniform weight of the other image's pixels, from 0.01 to 0.99; the first image has
    /// one minus this weight. Default: `[0.5, 0.5]`.
    pub weight: [f32; 2],
    /// Range `[low, high]` of the factor of the other image's size, which is log-uniform, from 0.05 to 16. Default:
    /// `[0.5, 1.5]`.
    pub scale: [f32; 2],
}

impl Default for Mixup {
    /// The weight and the factors of YOLOX.
    fn default() -> Self {
        Self { probability: 0.5, weight: [0.5, 0.5], scale: [0.5, 1.5] }
    }
}

impl Settings for Mixup {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn is_strong(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        rising("weight", self.weight, [0.01, 0.99])?;
        rising("scale", self.scale, [0.05, 16.0])
    }
}

impl SampleTransform for Mixup {
    fn change(&self, sample: &mut Working, context: &mut Context<'_>, random: &mut Stream) -> Result<(), DataError> {
        let frame = context.frame();
        let weight = random.range(self.weight[0], self.weight[1]);
        let factor = random.range(self.scale[0].ln(), self.scale[1].ln()).exp();
        let mirrored = random.chance(frame.flip_horizontal);
        let at = [random.uniform(), random.uniform()];
        let Some(mut partner) = context.partner(random)? else { return Ok(()) };
        sample.reduce(frame.reduced(sample.size(), 1.0));
        let canvas = sample.size();
        let resized = fitted(partner.size(), canvas, factor);
        // A smaller image stays inside the canvas, and a larger one covers it.
        let offset = |canvas: u32, image: u32, at: f32| ((i64::from(canvas) - i64::from(image)) as f32 * at) as i64;
        let placement = Placement {
            mirrored,
            resized,
            left: offset(canvas.width, resized.width, at[0]),
            top: offset(canvas.height, resized.height, at[1]),
            window: Window::whole(canvas),
        };
        partner.put_on(canvas, placement, frame.fill);
        blend(&mut sample.image, &partner.image, weight);
        sample.labels.extend(partner.labels);
        Ok(())
    }
}

/// Blends an image with another of its size, which gets this weight.
fn blend(image: &mut RgbImage, other: &RgbImage, weight: f32) {
    let second = (weight * 256.0).round() as u32;
    let first = 256 - second;
    for (a, b) in image.iter_mut().zip(other.iter()) {
        *a = ((u32::from(*a) * first + u32::from(*b) * second + 128) >> 8) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_weighted_means() {
        let mut image = RgbImage::from_pixel(2, 1, image::Rgb([200, 0, 255]));
        blend(&mut image, &RgbImage::from_pixel(2, 1, image::Rgb([100, 255, 255])), 0.25);
        assert_eq!(image.get_pixel(1, 0).0, [175, 64, 255]);
    }
}
