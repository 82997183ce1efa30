//! Random erasing.

use foveal_base::{SettingError, check};
use foveal_boxes::BBox;
use foveal_image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::range::rising;
use super::{Context, SampleTransform, Settings, Working};
use crate::{DataError, Stream};

/// What [`Erasing`] fills its rectangles with (`fill`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filling {
    /// An independent random level for each channel of each pixel. This is the default, which arXiv 1708.04896 finds
    /// best.
    #[default]
    Noise,
    /// The mean colour of the normalisation (`data.mean`).
    Mean,
    /// The colour `color`.
    Color,
}

/// Random erasing (Zhong et al., arXiv 1708.04896): fills random rectangles of the image. In the paper all objects
/// stay. Here, an object of whose box less than a quarter remains visible becomes an ignored region, because nothing
/// could tell the detector what was there. The boxes of other objects stay as they are, including covered parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Erasing {
    /// Probability that rectangles of an image are erased, from 0 to 1. Default: 0.5.
    pub probability: f32,
    /// Range `[low, high]` of the number of rectangles, from 1 to 64. Default: `[1, 1]`.
    pub count: [u32; 2],
    /// Range `[low, high]` of the area of a rectangle as a fraction of the area of the image, above 0 and at most 1.
    /// Default: `[0.02, 0.33]`.
    pub area: [f32; 2],
    /// Range `[low, high]` of the width of a rectangle divided by its height, which is log-uniform, from 0.01 to 100.
    /// Default: `[0.3, 3.3]`.
    pub aspect: [f32; 2],
    /// What the rectangles are filled with. Default: `noise`.
    pub fill: Filling,
    /// The colour for `fill = "color"`: red, green and blue from 0 to 255. Default: `[0, 0, 0]`.
    pub color: [u8; 3],
}

impl Default for Erasing {
    /// The probability and the ranges of torchvision's `RandomErasing`, and the filling of the paper.
    fn default() -> Self {
        Self {
            probability: 0.5,
            count: [1, 1],
            area: [0.02, 0.33],
            aspect: [0.3, 3.3],
            fill: Filling::default(),
            color: [0; 3],
        }
    }
}

/// Largest number of rectangles of an image.
const MAX_COUNT: u32 = 64;
/// Smallest area of a rectangle as a fraction of the image.
const LEAST_AREA: f32 = 1e-6;
/// Number of attempts to find a rectangle that fits into the image, as in torchvision.
const TRIES: usize = 10;

impl Settings for Erasing {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        let [low, high] = self.count;
        let expected = format!("[low, high] with 1 <= low <= high <= {MAX_COUNT}");
        check::that(1 <= low && low <= high && high <= MAX_COUNT, "count", &expected, &self.count)?;
        rising("area", self.area, [LEAST_AREA, 1.0])?;
        rising("aspect", self.aspect, [0.01, 100.0])
    }
}

impl SampleTransform for Erasing {
    fn change(&self, sample: &mut Working, context: &mut Context<'_>, random: &mut Stream) -> Result<(), DataError> {
        let erased = self.erase(&mut sample.image, context.frame().fill.0, random);
        sample.labels.cover(&erased);
        Ok(())
    }
}

impl Erasing {
    /// Fills random rectangles and returns them in pixels.
    fn erase(&self, image: &mut RgbImage, mean: [u8; 3], random: &mut Stream) -> Vec<BBox> {
        let [low, high] = self.count;
        let count = low as usize + random.below((high - low) as usize + 1);
        let (width, height) = image.dimensions();
        let areas: Vec<Area> = (0..count).filter_map(|_| self.area(width, height, random)).collect();
        for area in &areas {
            match self.fill {
                Filling::Noise => area.fill_with_noise(image, random),
                Filling::Mean => area.fill(image, mean),
                Filling::Color => area.fill(image, self.color),
            }
        }
        areas.iter().map(Area::bbox).collect()
    }

    /// A random rectangle of an image. `None` if no attempt gives one that fits into it.
    fn area(&self, width: u32, height: u32, random: &mut Stream) -> Option<Area> {
        let pixels = f64::from(width) * f64::from(height);
        let [low, high] = self.aspect.map(f64::from);
        for _ in 0..TRIES {
            let area = pixels * f64::from(random.range(self.area[0], self.area[1]));
            let aspect = low * (high / low).powf(f64::from(random.uniform()));
            let side = |length: f64| (length.round() as u32).max(1);
            let (w, h) = (side((area * aspect).sqrt()), side((area / aspect).sqrt()));
            if w <= width && h <= height {
                let x = random.below((width - w) as usize + 1) as u32;
                let y = random.below((height - h) as usize + 1) as u32;
                return Some(Area { x, y, width: w, height: h });
            }
        }
        None
    }
}

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Area {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

impl Area {
    fn bbox(&self) -> BBox {
        let [x1, y1, x2, y2] = [self.x, self.y, self.x + self.width, self.y + self.height].map(|v| v as f32);
        BBox::new(x1, y1, x2, y2)
    }

    /// The bytes of each row of the rectangle.
    fn rows<'a>(&self, image: &'a mut RgbImage) -> impl Iterator<Item = &'a mut [u8]> {
        let row = image.width() as usize * 3;
        let (from, length) = (self.x as usize * 3, self.width as usize * 3);
        let (first, count) = (self.y as usize, self.height as usize);
        image.chunks_exact_mut(row).skip(first).take(count).map(move |row| &mut row[from..][..length])
    }

    fn fill(&self, image: &mut RgbImage, color: [u8; 3]) {
        self.rows(image).for_each(|row| row.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&color)));
    }

    fn fill_with_noise(&self, image: &mut RgbImage, random: &mut Stream) {
        for row in self.rows(image) {
            for bytes in row.chunks_mut(size_of::<u64>()) {
                bytes.copy_from_slice(&random.bits().to_le_bytes()[..bytes.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{LabelledObject, Labels};
    use proptest::prelude::*;

    proptest! {
        /// Rectangles lie in the image, with the area and the aspect of the settings up to the rounding of their sides.
        #[test]
        fn rectangles_are_in_the_image_and_in_the_ranges(
            seed in any::<u64>(), width in 40u32..200, height in 40u32..200,
        ) {
            let erasing = Erasing { area: [0.1, 0.2], aspect: [0.5, 2.0], ..Erasing::default() };
            let found = erasing.area(width, height, &mut Stream::new(&[seed]));
            if let Some(Area { x, y, width: w, height: h }) = found {
                prop_assert!(x + w <= width && y + h <= height);
                let (w, h, pixels) = (w as f32, h as f32, (width * height) as f32);
                prop_assert!((w - 0.5) * (h - 0.5) <= pixels * 0.2 && (w + 0.5) * (h + 0.5) >= pixels * 0.1);
                prop_assert!((w - 0.5) / (h + 0.5) <= 2.0 && (w + 0.5) / (h - 0.5) >= 0.5);
            }
        }

        /// Exactly the pixels of the rectangles change, boxes stay where they are, and an object is trained if and only
        /// if a quarter of its pixels is left.
        #[test]
        fn pixels_and_objects_follow_the_rule(seed in any::<u64>(), boxes in proptest::collection::vec(
            (0u32..50, 0u32..30, 1u32..14, 1u32..10), 0..8,
        )) {
            let boxes = boxes.iter().map(|&(x, y, w, h)| [x, y, x + w, y + h].map(|v| v as f32));
            let boxes: Vec<BBox> = boxes.map(|[a, b, c, d]| BBox::new(a, b, c, d)).collect();
            let object = |(class, bbox): (usize, &BBox)| LabelledObject { bbox: *bbox, class: class as u32, visible: 1.0 };
            let crowd = BBox::new(1.0, 2.0, 3.0, 4.0);
            let mut labels =
                Labels { objects: boxes.iter().enumerate().map(object).collect(), ignored: vec![crowd] };
            let erasing =
                Erasing { count: [1, 4], area: [0.05, 0.6], fill: Filling::Color, color: [9, 8, 7], ..Erasing::default() };
            let mut image = RgbImage::from_pixel(64, 40, image::Rgb([200; 3]));
            let erased = erasing.erase(&mut image, [0; 3], &mut Stream::new(&[seed]));
            labels.cover(&erased);
            let inside = |b: &BBox, x: u32, y: u32| {
                b.x1 <= x as f32 && (x as f32) < b.x2 && b.y1 <= y as f32 && (y as f32) < b.y2
            };
            for (x, y, pixel) in image.enumerate_pixels() {
                let gone = erased.iter().any(|b| inside(b, x, y));
                prop_assert_eq!(pixel.0, if gone { [9, 8, 7] } else { [200; 3] });
            }
            let left = |b: &BBox| image.enumerate_pixels().filter(|(x, y, p)| inside(b, *x, *y) && p.0[0] == 200).count();
            let (trained, hidden): (Vec<&BBox>, Vec<&BBox>) =
                boxes.iter().partition(|b| left(b) as f32 >= 0.25 * b.area() - 1e-3);
            prop_assert_eq!(labels.objects.iter().map(|o| &o.bbox).collect::<Vec<_>>(), trained);
            prop_assert_eq!(labels.ignored[0], crowd);
            prop_assert_eq!(labels.ignored[1..].iter().collect::<Vec<_>>(), hidden);
        }
    }

    #[test]
    fn fillings_differ() {
        let filled = |fill: Filling| {
            let mut image = RgbImage::new(50, 50);
            let all = Erasing { area: [1.0, 1.0], aspect: [1.0, 1.0], fill, color: [1, 2, 3], ..Erasing::default() };
            assert_eq!(all.erase(&mut image, [4, 5, 6], &mut Stream::new(&[1])), [BBox::new(0.0, 0.0, 50.0, 50.0)]);
            image
        };
        assert_eq!(filled(Filling::Color), RgbImage::from_pixel(50, 50, image::Rgb([1, 2, 3])));
        assert_eq!(filled(Filling::Mean), RgbImage::from_pixel(50, 50, image::Rgb([4, 5, 6])));
        let noise = filled(Filling::Noise);
        let mean = noise.as_raw().iter().map(|v| f32::from(*v)).sum::<f32>() / noise.as_raw().len() as f32;
        // The standard deviation of the mean of 7500 uniform levels is 0.85.
        assert!((mean - 127.5).abs() < 4.0, "{mean}");
    }
}
