//! Combines four images in one.

use foveal_base::{SettingError, check};
use foveal_image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::collage::{Placement, Window, fitted, paste};
use super::range::rising;
use super::{Context, SampleTransform, Settings, Working};
use crate::augment::Size;
use crate::labels::Labels;
use crate::{DataError, Stream};

/// Combines the image with three random images of the data set (Bochkovskiy et al., YOLOv4, arXiv 2004.10934, section
/// 3.4). The canvas has the size to which the first image is resized for the network. A random point divides it into
/// four parts, one for each image, in random order.
///
/// Each image is resized to the largest size that fits into the canvas, times a random factor, without a change of its
/// proportions. Where it is larger than its part, a random section of it is visible; where it is smaller, it lies at
/// the dividing point, and the rest has the mean colour. Only visible pixels are resized. The other images are as in
/// their files: transforms earlier in the list change the first image alone, and transforms later in the list change
/// the whole mosaic.
///
/// This is a strong transform, which `data.augment.close_epochs` leaves out in the last epochs. If `data.on_error` is
/// `skip` and none of eleven images that are tried for a part can be loaded, the image stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mosaic {
    /// Probability that an image is combined with others, from 0 to 1. Default: 0.5.
    pub probability: f32,
    /// Range `[low, high]` of the dividing point, as a fraction of the width and of the height, from 0.05 to 0.95.
    /// Default: `[0.25, 0.75]`.
    pub center: [f32; 2],
    /// Range `[low, high]` of the factor of each image's size, which is log-uniform, from 0.05 to 16. Default:
    /// `[0.5, 1.5]`.
    pub scale: [f32; 2],
}

impl Default for Mosaic {
    /// The probability of Darknet's YOLOv4, the dividing points of MMDetection's `Mosaic` (0.5 to 1.5 of the input's
    /// size on a canvas of twice its size), and the factors of Ultralytics' YOLOv5 and YOLOv8.
    fn default() -> Self {
        Self { probability: 0.5, center: [0.25, 0.75], scale: [0.5, 1.5] }
    }
}

impl Settings for Mosaic {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn is_strong(&self) -> bool {
        true
    }

    fn changes_size(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        rising("center", self.center, [0.05, 0.95])?;
        rising("scale", self.scale, [0.05, 16.0])
    }
}

impl SampleTransform for Mosaic {
    fn change(&self, sample: &mut Working, context: &mut Context<'_>, random: &mut Stream) -> Result<(), DataError> {
        let canvas = context.frame().target(sample.size());
        let [low, high] = self.center;
        let mut divide = |length: u32| ((length as f32 * random.range(low, high)).round() as i64).min(length.into());
        let point = [divide(canvas.width), divide(canvas.height)];
        let mut quadrants = [0, 1, 2, 3];
        random.shuffle(&mut quadrants);
        let mut mosaic = Canvas {
            size: canvas,
            point,
            pixels: RgbImage::from_pixel(canvas.width, canvas.height, context.frame().fill),
            labels: Labels::default(),
        };
        for (position, quadrant) in quadrants.into_iter().enumerate() {
            let chances = Chances::new(self.scale, random);
            if position == 0 {
                mosaic.add(quadrant, sample, chances);
            } else {
                let Some(partner) = context.partner(random)? else { return Ok(()) };
                mosaic.add(quadrant, &partner, chances);
            }
        }
        sample.image = mosaic.pixels;
        sample.labels = mosaic.labels;
        Ok(())
    }
}

/// The random values of an image of a mosaic.
struct Chances {
    /// Factor of the size.
    scale: f32,
    /// Where the visible section begins, as fractions from 0 to below 1 of what is left over.
    section: [f32; 2],
}

impl Chances {
    fn new([low, high]: [f32; 2], random: &mut Stream) -> Self {
        Self { scale: random.range(low.ln(), high.ln()).exp(), section: [random.uniform(), random.uniform()] }
    }
}

/// A mosaic in the making.
struct Canvas {
    size: Size,
    /// Column and row of the dividing point.
    point: [i64; 2],
    pixels: RgbImage,
    labels: Labels,
}

impl Canvas {
    /// Adds an image to a quadrant: 0 is top left, 1 top right, 2 bottom left, 3 bottom right.
    fn add(&mut self, quadrant: usize, image: &Working, chances: Chances) {
        let [x, y] = self.point;
        let (after_x, after_y) = (quadrant % 2 == 1, quadrant / 2 == 1);
        let whole = Window::whole(self.size);
        let (left, right) = if after_x { (x, whole.right) } else { (0, x) };
        let (top, bottom) = if after_y { (y, whole.bottom) } else { (0, y) };
        let resized = fitted(image.size(), self.size, chances.scale);
        let placement = Placement {
            mirrored: false,
            resized,
            left: begin([left, right], resized.width, after_x, chances.section[0]),
            top: begin([top, bottom], resized.height, after_y, chances.section[1]),
            window: Window { left, top, right, bottom },
        };
        if let Some(part) = placement.part(&image.image) {
            paste(&mut self.pixels, &part);
        }
        self.labels.extend(placement.labels(image.size(), image.labels.clone()));
    }
}

/// Where an image of this length begins on an axis, of which it may fill a range. A longer image begins before the
/// range by `section` of what is left over. A shorter one lies at the dividing point, which is the start of the range
/// if `after` is true and its end otherwise.
fn begin([start, end]: [i64; 2], length: u32, after: bool, section: f32) -> i64 {
    let length = i64::from(length);
    let over = length - (end - start);
    if over > 0 {
        start - (over as f32 * section) as i64
    } else if after {
        start
    } else {
        end - length
    }
}
