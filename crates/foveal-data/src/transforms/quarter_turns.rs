//! Turns images by multiples of 90 degrees.

use foveal_base::{SettingError, check};
use foveal_boxes::BBox;
use image::imageops;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Context, SampleTransform, Settings, Working};
use crate::augment::Size;
use crate::{DataError, Stream};

/// Turns an image clockwise by 90, 180 or 270 degrees, each with the same probability. Pixels and boxes are exact. It
/// suits images without an upright direction, such as aerial and microscope images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuarterTurns {
    /// Probability that an image is turned, from 0 to 1. Default: 0.75, so that the four orientations are equally
    /// frequent.
    pub probability: f32,
}

impl Default for QuarterTurns {
    fn default() -> Self {
        Self { probability: 0.75 }
    }
}

impl Settings for QuarterTurns {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn changes_size(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)
    }
}

impl SampleTransform for QuarterTurns {
    fn change(&self, sample: &mut Working, _context: &mut Context<'_>, random: &mut Stream) -> Result<(), DataError> {
        let size = sample.size();
        let turned = Size { width: size.height, height: size.width };
        let (w, h) = (size.width as f32, size.height as f32);
        match random.below(3) {
            0 => {
                sample.image = imageops::rotate90(&sample.image);
                sample.labels.place(|b| BBox::new(h - b.y2, b.x1, h - b.y1, b.x2), &turned.bbox());
            }
            1 => {
                imageops::rotate180_in_place(&mut sample.image);
                sample.labels.place(|b| BBox::new(w - b.x2, h - b.y2, w - b.x1, h - b.y1), &size.bbox());
            }
            _ => {
                sample.image = imageops::rotate270(&sample.image);
                sample.labels.place(|b| BBox::new(b.y1, w - b.x2, b.y2, w - b.x1), &turned.bbox());
            }
        }
        Ok(())
    }
}
