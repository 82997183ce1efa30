//! Resizes images by a large range of factors onto a canvas of fixed size.

use foveal_base::{SettingError, check};
use foveal_image::MAX_SIDE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::collage::{Placement, Window, fitted};
use super::range::rising;
use super::{Context, SampleTransform, Settings, Working};
use crate::augment::Size;
use crate::{DataError, Stream};

/// Resizes the image by a factor from a large range and crops or pads it to a canvas of fixed size (Ghiasi et al.,
/// arXiv 2012.07177, section 3; `ResizeScale` and `FixedSizeCrop` of Detectron2, `ScaleJitter` and `FixedSizeCrop` of
/// torchvision).
///
/// The image is resized to the largest size that fits into the canvas, times the factor, without a change of its
/// proportions. A larger image is cropped at a random place, and only the pixels of the crop are resized. A smaller one
/// lies at the top left, and the rest of the canvas has the mean colour. The result is the network's input:
/// `data.min_size`, `data.max_size`, `data.fixed_size`, `min_sizes` and `scale_jitter` do not apply to it, and resizing
/// is `antialias` whatever `data.resize` is. Transforms that change the size of an image must come before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LargeScaleJitter {
    /// Probability that an image is put on the canvas, from 0 to 1. Images that are not put on it are resized as `data`
    /// says. Default: 1.
    pub probability: f32,
    /// Size `[height, width]` of the canvas in pixels, each from 1 to 16384. Default: `[1024, 1024]`.
    pub size: [u32; 2],
    /// Range `[low, high]` of the uniform factor, from 0.01 to 16. Default: `[0.1, 2]`.
    pub scale: [f32; 2],
}

impl Default for LargeScaleJitter {
    /// The values of arXiv 2012.07177.
    fn default() -> Self {
        Self { probability: 1.0, size: [1024, 1024], scale: [0.1, 2.0] }
    }
}

impl Settings for LargeScaleJitter {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn changes_size(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        let sides = self.size.iter().all(|side| (1..=MAX_SIDE).contains(side));
        check::that(sides, "size", &format!("[height, width] of 1 to {MAX_SIDE} pixels"), &self.size)?;
        rising("scale", self.scale, [0.01, 16.0])
    }
}

impl SampleTransform for LargeScaleJitter {
    fn change(&self, sample: &mut Working, context: &mut Context<'_>, random: &mut Stream) -> Result<(), DataError> {
        let canvas = Size { width: self.size[1], height: self.size[0] };
        let resized = fitted(sample.size(), canvas, random.range(self.scale[0], self.scale[1]));
        let mut offset = |canvas: u32, image: u32| -(random.below(image.saturating_sub(canvas) as usize + 1) as i64);
        let placement = Placement {
            mirrored: false,
            resized,
            left: offset(canvas.width, resized.width),
            top: offset(canvas.height, resized.height),
            window: Window::whole(canvas),
        };
        sample.put_on(canvas, placement, context.frame().fill);
        sample.sized = true;
        Ok(())
    }
}
