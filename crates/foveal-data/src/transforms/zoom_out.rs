//! Puts images at a random place of a larger canvas.

use foveal_base::{SettingError, check};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::collage::{Placement, Window, scaled};
use super::range::rising;
use super::{Context, SampleTransform, Settings, Working};
use crate::{DataError, Stream};

/// Puts the image at a random place of a larger canvas of the mean colour, so that its objects become smaller after
/// resizing, as in SSD (Liu et al., arXiv 1512.02325, section 3.6; torchvision's `RandomZoomOut`).
///
/// The canvas is not made larger than the network's input: the image is made smaller instead.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ZoomOut {
    /// Probability that an image is put on a canvas, from 0 to 1. Default: 0.5.
    pub probability: f32,
    /// Range `[low, high]` of each side of the canvas divided by the image's, from 1 to 16. Both sides have the same
    /// factor, which is uniform. Default: `[1, 4]`.
    pub scale: [f32; 2],
}

impl Default for ZoomOut {
    /// The values of torchvision's `RandomZoomOut`.
    fn default() -> Self {
        Self { probability: 0.5, scale: [1.0, 4.0] }
    }
}

impl Settings for ZoomOut {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn changes_size(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        rising("scale", self.scale, [1.0, 16.0])
    }
}

impl SampleTransform for ZoomOut {
    fn change(&self, sample: &mut Working, context: &mut Context<'_>, random: &mut Stream) -> Result<(), DataError> {
        let factor = random.range(self.scale[0], self.scale[1]);
        let (across, down) = (random.uniform(), random.uniform());
        let frame = context.frame();
        let canvas = frame.reduced(scaled(sample.size(), factor), 1.0);
        let resized = scaled(canvas, 1.0 / factor);
        let offset = |canvas: u32, image: u32, at: f32| i64::from((canvas.saturating_sub(image) as f32 * at) as u32);
        let placement = Placement {
            mirrored: false,
            resized,
            left: offset(canvas.width, resized.width, across),
            top: offset(canvas.height, resized.height, down),
            window: Window::whole(canvas),
        };
        sample.put_on(canvas, placement, frame.fill);
        Ok(())
    }
}
