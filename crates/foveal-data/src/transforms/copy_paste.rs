//! Pastes objects of other images.

use foveal_base::{SettingError, check};
use foveal_boxes::BBox;
use foveal_image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::collage::{Part, Placement, Window, fitted};
use super::context::REPLACEMENTS;
use super::range::rising;
use super::{Context, SampleTransform, Settings, Working};
use crate::augment::Size;
use crate::labels::Labels;
use crate::{DataError, Record, Stream};

/// Pastes objects of other images, rare classes first, with soft edges. It follows copy-paste (Ghiasi et al., arXiv
/// 2012.07177) with boxes instead of masks, and the blending of cut, paste and learn (Dwibedi et al., arXiv
/// 1708.01642).
///
/// For each pasted object, a class is drawn with a probability proportional to `objects ^ -rarity`, where `objects` is
/// the number of objects of the class in the training set, and then one of its objects. Its image is resized to the
/// largest size that fits into the image that is augmented, times a random factor, so that the object keeps its share
/// of the image; an object that would be larger than the image is made smaller. Left and right are swapped with the
/// probability `data.augment.flip_horizontal`. The box is pasted at a random place inside the image. Around the box,
/// the surroundings of the object fade out over a margin.
///
/// Other objects in the pasted region are pasted too. They become objects if at least a quarter of their box is
/// visible, and ignored regions otherwise. Objects of the image of which less than a quarter remains visible, because
/// pasted boxes cover the rest, become ignored regions; the boxes of all others stay as they are.
///
/// This is a strong transform, which `data.augment.close_epochs` leaves out in the last epochs. If `data.on_error` is
/// `skip`, an object whose image cannot be loaded is replaced by another, up to ten times, and then left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CopyPaste {
    /// Probability that objects are pasted into an image, from 0 to 1. Default: 0.5.
    pub probability: f32,
    /// Range `[low, high]` of the number of pasted objects, from 1 to 100. Each needs another image to be loaded.
    /// Default: `[1, 2]`.
    pub count: [usize; 2],
    /// How strongly rare classes are preferred, from 0 to 4. With 0 all classes are drawn equally often, whatever their
    /// number of objects; with 0.5 a class with a hundredth of the objects is drawn ten times as often. Default: 0.5.
    pub rarity: f32,
    /// Range `[low, high]` of the factor of the object's size, which is log-uniform, from 0.05 to 16. Default:
    /// `[0.5, 1.5]`.
    pub scale: [f32; 2],
    /// Width of the margin over which the surroundings fade out, as a fraction of the shorter side of the pasted box,
    /// from 0 to 1. Default: 0.1.
    pub feather: f32,
}

impl Default for CopyPaste {
    fn default() -> Self {
        Self { probability: 0.5, count: [1, 2], rarity: 0.5, scale: [0.5, 1.5], feather: 0.1 }
    }
}

/// Largest number of objects that are pasted into an image.
const MAX_COUNT: usize = 100;

impl Settings for CopyPaste {
    fn probability(&self) -> f32 {
        self.probability
    }

    fn is_strong(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), SettingError> {
        check::fraction("probability", self.probability)?;
        let [low, high] = self.count;
        let expected = format!("[low, high] with 1 <= low <= high <= {MAX_COUNT}");
        check::that(1 <= low && low <= high && high <= MAX_COUNT, "count", &expected, &self.count)?;
        check::that((0.0..=4.0).contains(&self.rarity), "rarity", "a number from 0 to 4", &self.rarity)?;
        rising("scale", self.scale, [0.05, 16.0])?;
        check::fraction("feather", self.feather)
    }
}

/// The objects of a data set by class.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ObjectIndex {
    /// Index of the image and of the object in it, of each object of each class.
    by_class: Vec<Vec<(usize, usize)>>,
}

impl ObjectIndex {
    /// Sorts the objects of the images of a data set by class.
    pub(crate) fn new(records: &[Record]) -> Self {
        let mut index = Self::default();
        for (image, record) in records.iter().enumerate() {
            for (object, labelled) in record.objects.iter().enumerate() {
                let class = labelled.class as usize;
                if class >= index.by_class.len() {
                    index.by_class.resize(class + 1, Vec::new());
                }
                index.by_class[class].push((image, object));
            }
        }
        index
    }

    /// A random object: its image and its index in it. The probability of each class with objects is proportional to
    /// `objects ^ -rarity`. `None` if there are no objects.
    fn draw(&self, rarity: f32, random: &mut Stream) -> Option<(usize, usize)> {
        let weight = |objects: usize| if objects == 0 { 0.0 } else { (objects as f64).powf(-f64::from(rarity)) };
        let sum: f64 = self.by_class.iter().map(|objects| weight(objects.len())).sum();
        let mut rest = f64::from(random.uniform()) * sum;
        let with_objects = || self.by_class.iter().filter(|objects| !objects.is_empty());
        let class = with_objects().find(|objects| {
            rest -= weight(objects.len());
            rest < 0.0
        });
        // Rounding errors can leave a rest after the last class.
        let objects = class.or_else(|| with_objects().next_back())?;
        Some(objects[random.below(objects.len())])
    }
}

impl SampleTransform for CopyPaste {
    fn change(&self, sample: &mut Working, context: &mut Context<'_>, random: &mut Stream) -> Result<(), DataError> {
        let frame = context.frame();
        let count = self.count[0] + random.below(self.count[1] - self.count[0] + 1);
        sample.reduce(frame.reduced(sample.size(), 1.0));
        let mut pasted: Vec<(BBox, Labels)> = Vec::with_capacity(count);
        for _ in 0..count {
            let Some((source, object)) = self.source(context, random)? else { continue };
            let bbox = source.labels.objects[object].bbox;
            let cut = self.cut(source.size(), &bbox, sample.size(), frame.flip_horizontal, random);
            if let Some(part) = cut.placement.part(&source.image) {
                blend(&mut sample.image, &part, &cut);
            }
            let mut labels = source.labels;
            labels.place(|b| cut.placement.place(source.image.dimensions().into(), b), &cut.bbox);
            pasted.push((cut.bbox, labels));
        }
        // Later boxes cover earlier ones.
        let boxes: Vec<BBox> = pasted.iter().map(|(bbox, _)| *bbox).collect();
        sample.labels.cover(&boxes);
        for (position, (_, mut labels)) in pasted.into_iter().enumerate() {
            labels.cover(&boxes[position + 1..]);
            sample.labels.extend(labels);
        }
        Ok(())
    }
}

/// Where a cut-out is pasted.
struct Cut {
    placement: Placement,
    /// The box of the object on the canvas.
    bbox: BBox,
    /// Width of the margin around the box in pixels.
    margin: f32,
}

impl CopyPaste {
    /// Loads the image of a random object. `None` if there are no objects or none of the images that are tried can be
    /// loaded.
    fn source(&self, context: &mut Context<'_>, random: &mut Stream) -> Result<Option<(Working, usize)>, DataError> {
        for _ in 0..=REPLACEMENTS {
            let Some((image, object)) = context.objects().draw(self.rarity, random) else { return Ok(None) };
            if let Some(source) = context.load(image)? {
                return Ok(Some((source, object)));
            }
        }
        Ok(None)
    }

    /// Chooses the size and the place of the object with this box in an image of size `from`.
    fn cut(&self, from: Size, bbox: &BBox, canvas: Size, mirror: f32, random: &mut Stream) -> Cut {
        let mirrored = random.chance(mirror);
        let mut factor = random.range(self.scale[0].ln(), self.scale[1].ln()).exp();
        // The object must fit into the canvas.
        let plain = Placement::whole(fitted(from, canvas, 1.0)).place(from, bbox);
        factor = factor.min(canvas.width as f32 / plain.width()).min(canvas.height as f32 / plain.height());
        let resized = fitted(from, canvas, factor);
        let mut placement = Placement { mirrored, ..Placement::whole(resized) };
        let at = placement.place(from, bbox);
        let mut shift = |canvas: u32, [start, end]: [f32; 2]| {
            let (least, most) = (-start.floor() as i64, i64::from(canvas) - end.ceil() as i64);
            least + random.below((most - least).max(0) as usize + 1) as i64
        };
        placement.left = shift(canvas.width, [at.x1, at.x2]);
        placement.top = shift(canvas.height, [at.y1, at.y2]);
        let bbox = placement.place(from, bbox).clip(canvas.width as f32, canvas.height as f32);
        let margin = self.feather * bbox.width().min(bbox.height());
        placement.window = Window {
            left: ((bbox.x1 - margin).floor() as i64).max(0),
            top: ((bbox.y1 - margin).floor() as i64).max(0),
            right: ((bbox.x2 + margin).ceil() as i64).min(canvas.width.into()),
            bottom: ((bbox.y2 + margin).ceil() as i64).min(canvas.height.into()),
        };
        Cut { placement, bbox, margin }
    }
}

/// Blends a cut-out into an image. Its weight is 1 in the box and falls to 0 at the end of the margin.
fn blend(image: &mut RgbImage, part: &Part, cut: &Cut) {
    let b = &cut.bbox;
    // The weight of a pixel is the product of those of its column and its row. At an edge that is no whole pixel, or
    // without a margin, the weight changes within a pixel.
    let weights = |first: u32, length: u32, start: f32, end: f32| -> Vec<f32> {
        let outside = |centre: f32| (start - centre).max(centre - end).max(0.0);
        let weight = |i: u32| (1.0 - outside((first + i) as f32 + 0.5) / cut.margin.max(0.5)).max(0.0);
        (0..length).map(weight).collect()
    };
    let columns = weights(part.left, part.image.width(), b.x1, b.x2);
    let rows = weights(part.top, part.image.height(), b.y1, b.y2);
    let length = part.image.width() as usize * 3;
    let stride = image.width() as usize * 3;
    let start = part.top as usize * stride + part.left as usize * 3;
    let lines = image.as_mut()[start..].chunks_mut(stride).zip(part.image.as_raw().chunks_exact(length));
    for ((to, from), row) in lines.zip(rows) {
        for ((to, from), column) in to.chunks_exact_mut(3).zip(from.chunks_exact(3)).zip(&columns) {
            let weight = (row * column * 256.0) as u32;
            for (a, b) in to.iter_mut().zip(from) {
                *a = ((u32::from(*a) * (256 - weight) + u32::from(*b) * weight + 128) >> 8) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Object;

    fn record(image_id: i64, classes: &[u32]) -> Record {
        let bbox = BBox::new(0.0, 0.0, 4.0, 4.0);
        Record {
            image_id,
            file_name: String::new(),
            width: 8,
            height: 8,
            objects: classes.iter().map(|&class| Object { bbox, class, area: 16.0 }).collect(),
            crowds: Vec::new(),
        }
    }

    #[test]
    fn rare_classes_are_drawn_by_the_documented_rule() {
        // 16 objects of class 0, none of class 1, 4 of class 2, 1 of class 3.
        let records = [record(1, &[0; 16]), record(2, &[2, 2, 3]), record(3, &[2, 2])];
        let index = ObjectIndex::new(&records);
        let draws = 20_000;
        for (rarity, weights) in
            [(0.0, [1.0, 0.0, 1.0, 1.0]), (0.5, [0.25, 0.0, 0.5, 1.0]), (1.0, [0.0625, 0.0, 0.25, 1.0])]
        {
            let (mut random, mut counts) = (Stream::new(&[3]), [0; 4]);
            for _ in 0..draws {
                let (image, object) = index.draw(rarity, &mut random).unwrap();
                counts[records[image].objects[object].class as usize] += 1;
            }
            let sum: f64 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(weights) {
                // Four standard deviations of a share are at most 0.015.
                assert!((f64::from(*count) / f64::from(draws) - weight / sum).abs() < 0.015, "{rarity} {counts:?}");
            }
        }
        assert_eq!(ObjectIndex::new(&[record(1, &[])]).draw(1.0, &mut Stream::new(&[1])), None);
    }

    #[test]
    fn edges_fade_out_over_the_margin() {
        let copy_paste = CopyPaste { feather: 0.5, scale: [1.0, 1.0], ..CopyPaste::default() };
        let (size, bbox) = (Size { width: 40, height: 40 }, BBox::new(12.0, 14.0, 20.0, 22.0));
        let cut = copy_paste.cut(size, &bbox, size, 0.0, &mut Stream::new(&[2]));
        assert_eq!((cut.margin, cut.bbox.width(), cut.bbox.height()), (4.0, 8.0, 8.0));
        let mut image = RgbImage::new(40, 40);
        let source = RgbImage::from_pixel(40, 40, image::Rgb([255; 3]));
        blend(&mut image, &cut.placement.part(&source).unwrap(), &cut);
        let (left, middle) = (cut.bbox.x1 as u32, cut.bbox.y1 as u32 + 4);
        let inside = |x: u32| image.get_pixel(x, middle).0[0];
        assert_eq!(inside(left), 255);
        // Pixels at a distance of 0.5, 1.5, 2.5 and 3.5 of 4 pixels.
        let found: Vec<u8> = (1..=5).filter(|d| left >= *d).map(|d| inside(left - d)).collect();
        assert_eq!(found, [223, 159, 96, 32, 0][..found.len()]);
    }
}
