//! Turns colour images into grey ones.

use foveal_base::{SettingError, check};
use foveal_image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PixelTransform, Settings};
use crate::Stream;
use crate::color::luma;

/// Replaces each pixel by its grey level, the luma of ITU-R 601 (`0.299 R + 0.587 G + 0.114 B`), as torchvision's
/// `RandomGrayscale` does.
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
        for pixel in image.pixels_mut() {
            pixel.0 = [luma(pixel.0.map(f32::from)).round() as u8; 3];
        }
    }
}
