//! Crops images so that some object overlaps well with the crop.

use foveal_base::{SettingError, check};
use foveal_boxes::{BBox, iou};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::collage::{Placement, Window};
use super::range::rising;
use super::{Context, SampleTransform, Settings, Working};
use crate::augment::Size;
use crate::{DataError, Stream};

/// Crops an image to a random region, as SSD does (Liu et al., arXiv 1512.02325, section 2.2; torchvision's
/// `RandomIoUCrop`).
///
/// A smallest IoU is drawn from `min_iou`. A region with sides in `scale` and a ratio of width to height in `aspect` is
/// then tried up to `trials` times, until the centre of an object lies in the region and the IoU of such an object with
/// the region reaches the smallest IoU. If no trial succeeds, another IoU is drawn. The image stays as it is if the
/// drawn IoU is 1, or if no region is found for 50 drawn IoUs. Images without objects are not cropped.
///
/// Which objects are kept is decided by the fraction that remains visible, as with all transforms, not by their centres
/// as in SSD: an object of which less than a quarter remains becomes an ignored region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandomCrop {
    /// Probability that a smallest IoU is drawn, from 0 to 1. Default: 1, because the entry 1 of `min_iou` already
    /// leaves some images as they are.
    pub probability: f32,
    /// List of at most 100 smallest IoUs, each from 0 to 1, of which one is drawn. If 1 is drawn, the image stays as it
    /// is. Default: `[0, 0.1, 0.3, 0.5, 0.7, 0.9, 1]`.
    pub min_iou: Vec<f32>,
    /// Range `[low, high]` of each side of the region as a fraction of the image's, above 0 and at most 1. Default:
    /// `[0.3, 1]`.
    pub scale: [f32; 2],
    /// Range `[low, high]` of the region's width divided by its height, from 0.01 to 100. Default: `[0.5, 2]`.
    pub aspect: [f32; 2],
    /// Number of regions that are tried for a smallest IoU, from 1 to 1000. Default: 40.
    pub trials: usize,
}

/// Number of smallest IoUs that are drawn at most.
const ROUNDS: usize = 50;
/// Smallest side of the region as a fraction of the image's.
const LEAST_SCALE: f32 = 0.01;
/// Largest number of smallest IoUs.
const MAX_OPTIONS: usize = 100;

impl Default for RandomCrop {
    /// The values of torchvision's `RandomIoUCrop`.
    fn default() -> Self {
        Self {
            probability: 1.0,
            min_iou: vec![0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0],
            scale: [0.3, 1.0],
            aspect: [0.5, 2.0],
            trials: 40,
        }
    }
}

impl Settings for RandomCrop {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn changes_size(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        let unit = self.min_iou.iter().all(|iou| (0.0..=1.0).contains(iou));
        let some = (1..=MAX_OPTIONS).contains(&self.min_iou.len());
        check::that(unit && some, "min_iou", "1 to 100 numbers from 0 to 1", &self.min_iou)?;
        rising("scale", self.scale, [LEAST_SCALE, 1.0])?;
        rising("aspect", self.aspect, [0.01, 100.0])?;
        check::count("trials", self.trials, 1..=1000)
    }
}

impl SampleTransform for RandomCrop {
    fn change(&self, sample: &mut Working, context: &mut Context<'_>, random: &mut Stream) -> Result<(), DataError> {
        let boxes: Vec<BBox> = sample.labels.objects.iter().map(|object| object.bbox).collect();
        if let Some(region) = self.region(sample.size(), &boxes, random) {
            let (resized, window) = (sample.size(), Window::whole(region.size()));
            let placement = Placement { mirrored: false, resized, left: -region.left, top: -region.top, window };
            sample.put_on(region.size(), placement, context.frame().fill);
        }
        Ok(())
    }
}

impl RandomCrop {
    /// A random region of an image with these objects; `None` if the image stays as it is.
    fn region(&self, image: Size, boxes: &[BBox], random: &mut Stream) -> Option<Window> {
        if boxes.is_empty() {
            return None;
        }
        for _ in 0..ROUNDS {
            let least = self.min_iou[random.below(self.min_iou.len())];
            if least >= 1.0 {
                return None;
            }
            for _ in 0..self.trials {
                let region = self.trial(image, random);
                if region.is_some_and(|region| overlaps(&region.bbox(), boxes, least)) {
                    return region;
                }
            }
        }
        None
    }

    /// A random region; `None` if its ratio of width to height is outside the range.
    fn trial(&self, image: Size, random: &mut Stream) -> Option<Window> {
        let [low, high] = self.scale;
        let side =
            |length: u32, random: &mut Stream| ((length as f32 * random.range(low, high)) as u32).clamp(1, length);
        let (width, height) = (side(image.width, random), side(image.height, random));
        let left = random.below((image.width - width) as usize + 1) as i64;
        let top = random.below((image.height - height) as usize + 1) as i64;
        let aspect = width as f32 / height as f32;
        let inside = self.aspect[0] <= aspect && aspect <= self.aspect[1];
        inside.then(|| Window { left, top, right: left + i64::from(width), bottom: top + i64::from(height) })
    }
}

/// Whether an object whose centre lies in the region has at least this IoU with the region.
fn overlaps(region: &BBox, boxes: &[BBox], least: f32) -> bool {
    boxes.iter().any(|bbox| {
        let (x, y) = bbox.center();
        let inside = region.x1 < x && x < region.x2 && region.y1 < y && y < region.y2;
        inside && iou(bbox, region) >= least
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: Size = Size { width: 90, height: 60 };

    proptest! {
        /// Every region lies in the image, has the sides and the ratio of the settings up to whole pixels, and overlaps
        /// with an object as the smallest IoU asks.
        #[test]
        fn regions_follow_the_settings(seed in any::<u64>(), least in 0.0f32..0.8, x in 0u32..60, y in 0u32..30) {
            let bbox = BBox::new(x as f32, y as f32, (x + 30) as f32, (y + 30) as f32);
            let crop = RandomCrop { min_iou: vec![least], scale: [0.4, 0.9], aspect: [0.8, 1.6], ..RandomCrop::default() };
            let Some(region) = crop.region(SIZE, &[bbox], &mut Stream::new(&[seed])) else { return Ok(()) };
            let b = region.bbox();
            prop_assert_eq!(b.clip(90.0, 60.0), b);
            prop_assert!(b.width() >= 35.0 && b.width() <= 81.0 && b.height() >= 23.0 && b.height() <= 54.0, "{:?}", b);
            prop_assert!((0.8..=1.6).contains(&(b.width() / b.height())), "{:?}", b);
            prop_assert!(iou(&b, &bbox) >= least);
        }
    }

    #[test]
    fn an_iou_of_one_and_images_without_objects_are_left_alone() {
        let bbox = BBox::new(0.0, 0.0, 20.0, 20.0);
        let region = |min_iou: &[f32], boxes: &[BBox]| {
            let crop = RandomCrop { min_iou: min_iou.to_vec(), ..RandomCrop::default() };
            crop.region(SIZE, boxes, &mut Stream::new(&[4]))
        };
        assert_eq!(region(&[1.0], &[bbox]), None);
        assert_eq!(region(&[0.0], &[]), None);
        assert!(region(&[0.0], &[bbox]).is_some());
        // No region of at least 0.3 of each side has an IoU of 0.9 with a small object.
        assert_eq!(region(&[0.9], &[BBox::new(3.0, 3.0, 5.0, 5.0)]), None);
    }
}
