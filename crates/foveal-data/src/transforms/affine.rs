//! Rotates, scales, translates and shears images.

use foveal_base::{SettingError, check};
use foveal_boxes::BBox;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::range::rising;
use super::warp::{AffineMap, warp};
use super::{Context, SampleTransform, Settings, Working};
use crate::augment::Size;
use crate::{DataError, Stream};

/// Shears, scales, rotates and translates the image around its centre by one affine map, with bilinear interpolation.
/// The image keeps its size, and uncovered pixels have the mean colour.
///
/// The new box of an object is the smallest box around the four corners of the old one, clipped to the image. **Boxes
/// grow under rotation and shear**, because the corners of a box need not belong to the object: each side of a square
/// box becomes 16 % longer under a rotation by 10 degrees, and 41 % longer under a rotation by 45 degrees. Small angles
/// are therefore better for training than large ones. For images without an upright direction, use `quarter_turns`,
/// whose boxes are exact.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Affine {
    /// Probability that an image is changed, from 0 to 1. Default: 0.5.
    pub probability: f32,
    /// Largest rotation in degrees, from 0 to 180: the angle is uniform from `-degrees` to `degrees`. Default: 10.
    pub degrees: f32,
    /// Largest translation as a fraction of the image's sides, from 0 to 1: the translation of each axis is uniform
    /// from `-translate` to `translate`. Default: 0.1.
    pub translate: f32,
    /// Range `[low, high]` of the scale factor, which is log-uniform, from 0.1 to 10. Default: `[0.5, 1.5]`.
    pub scale: [f32; 2],
    /// Largest shear in degrees, from 0 to 40: the shear of each axis is uniform from `-shear` to `shear`. Default: 2.
    pub shear: f32,
}

impl Default for Affine {
    /// The defaults of MMDetection's `RandomAffine`.
    fn default() -> Self {
        Self { probability: 0.5, degrees: 10.0, translate: 0.1, scale: [0.5, 1.5], shear: 2.0 }
    }
}

impl Settings for Affine {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        check::that((0.0..=180.0).contains(&self.degrees), "degrees", "a number from 0 to 180", &self.degrees)?;
        check::fraction("translate", self.translate)?;
        rising("scale", self.scale, [0.1, 10.0])?;
        check::that((0.0..=40.0).contains(&self.shear), "shear", "a number from 0 to 40", &self.shear)
    }
}

impl SampleTransform for Affine {
    fn change(&self, sample: &mut Working, context: &mut Context<'_>, random: &mut Stream) -> Result<(), DataError> {
        let mut around_zero = |most: f32| random.range(-most, most);
        let angle = around_zero(self.degrees).to_radians();
        let shear = [around_zero(self.shear), around_zero(self.shear)].map(|degrees| degrees.to_radians().tan());
        let shift = [around_zero(self.translate), around_zero(self.translate)];
        let scale = random.range(self.scale[0].ln(), self.scale[1].ln()).exp();
        let frame = context.frame();
        sample.reduce(frame.reduced(sample.size(), scale));
        let size = sample.size();
        let map = map(size, angle, scale, shear, shift);
        sample.image = warp(&sample.image, &map.inverse(), frame.fill);
        sample.labels.place(|bbox| around(&map, bbox), &size.bbox());
        Ok(())
    }
}

/// The map from the pixels of the old image to those of the new one: `shear`, `scale` and a clockwise rotation by
/// `angle` around the centre, then a translation by `shift` times the sides.
fn map(size: Size, angle: f32, scale: f32, [shear_x, shear_y]: [f32; 2], shift: [f32; 2]) -> AffineMap {
    let (width, height) = (size.width as f32, size.height as f32);
    let (sin, cos) = angle.sin_cos();
    // Rotation times shear, both times the scale. The y axis points downwards, so that this rotation is clockwise.
    let a = [
        scale * (cos - sin * shear_y),
        scale * (cos * shear_x - sin),
        scale * (sin + cos * shear_y),
        scale * (sin * shear_x + cos),
    ];
    let centre = [width / 2.0, height / 2.0];
    AffineMap {
        matrix: a,
        offset: [
            centre[0] - a[0] * centre[0] - a[1] * centre[1] + shift[0] * width,
            centre[1] - a[2] * centre[0] - a[3] * centre[1] + shift[1] * height,
        ],
    }
}

/// The smallest box around the mapped corners of a box.
fn around(map: &AffineMap, bbox: &BBox) -> BBox {
    let corners = [(bbox.x1, bbox.y1), (bbox.x2, bbox.y1), (bbox.x1, bbox.y2), (bbox.x2, bbox.y2)];
    let corners = corners.map(|(x, y)| map.apply(x, y));
    let least = |axis: usize| corners.iter().map(|c| c[axis]).fold(f32::INFINITY, f32::min);
    let most = |axis: usize| corners.iter().map(|c| c[axis]).fold(f32::NEG_INFINITY, f32::max);
    BBox::new(least(0), least(1), most(0), most(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 40, height: 20 };

    #[test]
    fn boxes_turn_clockwise_and_grow_by_the_documented_amount() {
        // The point right of the centre goes below it.
        let quarter = map(SIZE, std::f32::consts::FRAC_PI_2, 1.0, [0.0; 2], [0.0; 2]);
        let [x, y] = quarter.apply(25.0, 10.0);
        assert!((x - 20.0).abs() < 1e-4 && (y - 15.0).abs() < 1e-4, "{x} {y}");
        let square = BBox::new(10.0, 5.0, 20.0, 15.0);
        for (degrees, longer) in [(10.0f32, 1.16), (45.0, 1.41)] {
            let turned = around(&map(SIZE, degrees.to_radians(), 1.0, [0.0; 2], [0.0; 2]), &square);
            assert!((turned.width() / 10.0 - longer).abs() < 0.01, "{turned:?}");
        }
    }

    #[test]
    fn scale_shear_and_translation_by_hand() {
        let bbox = BBox::new(20.0, 10.0, 30.0, 14.0);
        // Twice as large around (20, 10), then 4 pixels to the right and 5 upwards.
        let moved = around(&map(SIZE, 0.0, 2.0, [0.0; 2], [0.1, -0.25]), &bbox);
        assert_eq!(moved, BBox::new(24.0, 5.0, 44.0, 13.0));
        // Each row below the centre moves right by half of its distance.
        let sheared = around(&map(SIZE, 0.0, 1.0, [0.5, 0.0], [0.0; 2]), &bbox);
        assert_eq!(sheared, BBox::new(20.0, 10.0, 32.0, 14.0));
    }
}
