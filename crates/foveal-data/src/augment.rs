//! Geometric augmentation of a training image. All random values are chosen first and then applied to pixels and boxes.

use std::collections::BTreeMap;

use foveal_anchors::{Anchors, MatchedImage, MatcherConfig, match_image};
use foveal_boxes::BBox;
use foveal_image::{Prepared, Preprocess, RgbImage, Staged, padded_length};

use crate::labels::{LabelledObject, Labels};
use crate::{AugmentConfig, DataConfig, Record, Stream};

/// The geometric changes of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Geometry {
    /// Whether left and right are swapped.
    pub flip_horizontal: bool,
    /// Whether top and bottom are swapped.
    pub flip_vertical: bool,
    /// Size in pixels that the image is resized to.
    pub resized: Size,
    /// Size in pixels of the result.
    pub canvas: Size,
    /// Horizontal position in pixels of the resized image's left edge on the canvas. Negative values crop the image.
    pub offset_x: i64,
    /// Vertical position in pixels of the resized image's top edge on the canvas. Negative values crop the image.
    pub offset_y: i64,
}

/// A size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

impl From<(u32, u32)> for Size {
    fn from((width, height): (u32, u32)) -> Self {
        Self { width, height }
    }
}

impl Size {
    /// Number of pixels.
    pub(crate) fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// The box of a whole image of this size.
    pub(crate) fn bbox(self) -> BBox {
        BBox::new(0.0, 0.0, self.width as f32, self.height as f32)
    }
}

/// The objects of an image and the regions to be ignored (`crowds`), in pixels of the canvas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlacedObjects {
    /// Box of each object in pixels of the canvas: `[objects]`.
    pub boxes: Vec<BBox>,
    /// Class of each object, in the order of `boxes`: `[objects]`.
    pub classes: Vec<u32>,
    /// Regions in pixels of the canvas in which anchors are ignored: crowd regions, and objects that are mostly cut
    /// off or too small.
    pub crowds: Vec<BBox>,
}

impl PlacedObjects {
    /// Returns the training targets of `anchors`, those of the padded image, and the objects that got none of them.
    pub(crate) fn targets(&self, anchors: &Anchors, matcher: &MatcherConfig) -> MatchedImage {
        match_image(anchors, &self.boxes, &self.classes, &self.crowds, matcher)
    }
}

/// The objects of an image that is resized without augmentation.
pub(crate) struct UnaugmentedImage {
    /// Index of the image among those given to [`by_padded_size`].
    pub index: usize,
    /// Objects of the image, in pixels of the resized image.
    pub placed: PlacedObjects,
}

/// Groups images without augmentation by their `[height, width]` in pixels after padding. The images of a group share
/// their anchors.
pub(crate) fn by_padded_size<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    config: &DataConfig,
) -> BTreeMap<[usize; 2], Vec<UnaugmentedImage>> {
    let mut by_size: BTreeMap<[usize; 2], Vec<UnaugmentedImage>> = BTreeMap::new();
    for (index, record) in records.into_iter().enumerate() {
        let size = Size { width: record.width, height: record.height };
        let geometry = Geometry::plain(&config.preprocess(), size);
        let padded = [geometry.canvas.height, geometry.canvas.width].map(|side| padded_length(side as usize));
        let placed = geometry.place(size, &Labels::from(record), config.min_box);
        by_size.entry(padded).or_default().push(UnaugmentedImage { index, placed });
    }
    by_size
}

impl Geometry {
    /// Returns the geometry of an image of this size that is resized and not augmented.
    pub(crate) fn plain(preprocess: &Preprocess, image: Size) -> Self {
        let (width, height) = preprocess.target_size(image.width, image.height);
        Self::unchanged(Size { width, height })
    }

    /// Returns the geometry of an image of this size that is not changed.
    pub(crate) fn unchanged(size: Size) -> Self {
        Self { flip_horizontal: false, flip_vertical: false, resized: size, canvas: size, offset_x: 0, offset_y: 0 }
    }

    /// Returns a random geometry of an image of this size: its flips, its size after resizing and its position on its
    /// canvas, as `config` allows.
    pub(crate) fn random(preprocess: &Preprocess, image: Size, config: &AugmentConfig, random: &mut Stream) -> Self {
        let flip_horizontal = random.chance(config.flip_horizontal);
        let flip_vertical = random.chance(config.flip_vertical);
        let mut preprocess = preprocess.clone();
        if !config.min_sizes.is_empty() {
            preprocess.min_size = config.min_sizes[random.below(config.min_sizes.len())];
        }
        let plain = Self { flip_horizontal, flip_vertical, ..Self::plain(&preprocess, image) };
        let [low, high] = config.scale_jitter;
        if low == 1.0 && high == 1.0 {
            return plain;
        }
        let factor = random.range(low.ln(), high.ln()).exp();
        let canvas = plain.canvas;
        let side = |n: u32| ((n as f32 * factor).round() as u32).max(1);
        let resized = Size { width: side(canvas.width), height: side(canvas.height) };
        // The offset is random, but a smaller image stays inside the canvas, and a larger image fills it.
        let mut offset = |canvas: u32, resized: u32| {
            let slack = i64::from(canvas) - i64::from(resized);
            let along = random.below(slack.unsigned_abs() as usize + 1) as i64;
            along * slack.signum()
        };
        let (offset_x, offset_y) = (offset(canvas.width, resized.width), offset(canvas.height, resized.height));
        Self { resized, offset_x, offset_y, ..plain }
    }

    /// Flips, resizes and places the image on its canvas. The rest of the canvas is 0, which is the mean colour after
    /// normalisation.
    pub(crate) fn apply(&self, mut image: RgbImage, preprocess: &Preprocess) -> Staged {
        if self.flip_horizontal {
            image::imageops::flip_horizontal_in_place(&mut image);
        }
        if self.flip_vertical {
            image::imageops::flip_vertical_in_place(&mut image);
        }
        if self.resized == self.canvas && (self.offset_x, self.offset_y) == (0, 0) {
            return preprocess.stage_at(image, self.resized.width, self.resized.height);
        }
        let prepared = preprocess.apply_at(&image, self.resized.width, self.resized.height);
        let (width, height) = (self.canvas.width as usize, self.canvas.height as usize);
        let mut data = vec![0.0; 3 * width * height];
        let across = Overlap::new(self.offset_x, prepared.width, width);
        let down = Overlap::new(self.offset_y, prepared.height, height);
        for channel in 0..3 {
            for row in 0..down.length {
                let from = (channel * prepared.height + down.from + row) * prepared.width + across.from;
                let to = (channel * height + down.to + row) * width + across.to;
                data[to..to + across.length].copy_from_slice(&prepared.data[from..from + across.length]);
            }
        }
        Staged::Prepared(Prepared { data, width, height, ..prepared })
    }

    /// Returns random flips of an image of this size, which keeps its size.
    pub(crate) fn random_flips(image: Size, config: &AugmentConfig, random: &mut Stream) -> Self {
        let flip_horizontal = random.chance(config.flip_horizontal);
        let flip_vertical = random.chance(config.flip_vertical);
        Self { flip_horizontal, flip_vertical, ..Self::unchanged(image) }
    }

    /// Places the objects of an image of size `image` on the canvas. Objects that are mostly cut off or smaller than
    /// `min_box` pixels are to be ignored.
    pub(crate) fn place(&self, image: Size, labels: &Labels, min_box: f32) -> PlacedObjects {
        let sx = self.resized.width as f32 / image.width as f32;
        let sy = self.resized.height as f32 / image.height as f32;
        let (x, y) = (self.offset_x as f32, self.offset_y as f32);
        let full = |bbox: &BBox| {
            let mut b = *bbox;
            if self.flip_horizontal {
                b = b.flip_horizontal(image.width as f32);
            }
            if self.flip_vertical {
                b = b.flip_vertical(image.height as f32);
            }
            let b = b.scale(sx, sy);
            BBox::new(b.x1 + x, b.y1 + y, b.x2 + x, b.y2 + y)
        };
        let mut labels = labels.clone();
        labels.place(full, &self.canvas.bbox());
        let mut placed = PlacedObjects { crowds: labels.ignored, ..PlacedObjects::default() };
        for LabelledObject { bbox, class, .. } in labels.objects {
            if bbox.width() >= min_box && bbox.height() >= min_box {
                placed.boxes.push(bbox);
                placed.classes.push(class);
            } else {
                placed.crowds.push(bbox);
            }
        }
        placed
    }
}

/// The range of an axis where image and canvas overlap: its start in the image, its start on the canvas, its length.
struct Overlap {
    from: usize,
    to: usize,
    length: usize,
}

impl Overlap {
    fn new(offset: i64, image: usize, canvas: usize) -> Self {
        let (from, to) = ((-offset).max(0) as usize, offset.max(0) as usize);
        Self { from, to, length: image.saturating_sub(from).min(canvas.saturating_sub(to)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Object;
    use foveal_image::ResizeMode;
    use proptest::prelude::*;

    const SIZE: Size = Size { width: 60, height: 40 };

    fn record(bbox: BBox) -> Record {
        Record {
            image_id: 1,
            file_name: String::new(),
            width: 60,
            height: 40,
            objects: vec![Object { bbox, class: 2, area: bbox.area() }],
            crowds: vec![bbox],
        }
    }

    /// A white rectangle on black, exactly at the box.
    fn image(bbox: &BBox) -> RgbImage {
        RgbImage::from_fn(60, 40, |x, y| {
            let inside = x as f32 >= bbox.x1 && (x as f32) < bbox.x2 && y as f32 >= bbox.y1 && (y as f32) < bbox.y2;
            image::Rgb([if inside { 255 } else { 0 }; 3])
        })
    }

    proptest! {
        /// For all random values, the box stays on the rectangle.
        #[test]
        fn boxes_follow_pixels(seed in 0u64..5000, x in 4u32..40, y in 4u32..24, w in 8u32..18, h in 8u32..14) {
            let bbox = BBox::new(x as f32, y as f32, (x + w) as f32, (y + h) as f32);
            let record = record(bbox);
            let preprocess = Preprocess {
                min_size: 40, max_size: 400, mean: [0.0; 3], std: [1.0; 3],
                resize: ResizeMode::Antialias, ..Preprocess::default()
            };
            let config = AugmentConfig {
                flip_horizontal: 0.5, flip_vertical: 0.5, scale_jitter: [0.6, 1.6], min_sizes: vec![40, 64, 96],
                ..AugmentConfig::off()
            };
            let geometry = Geometry::random(&preprocess, SIZE, &config, &mut Stream::new(&[seed]));
            let staged = geometry.apply(image(&bbox), &preprocess);
            let placed = geometry.place(SIZE, &Labels::from(&record), 1.0);
            let found = Size { width: staged.width() as u32, height: staged.height() as u32 };
            prop_assert_eq!(found, geometry.canvas);
            // The padding is black.
            let prepared = foveal_image::pad_staged(&[staged], &preprocess);
            let bright: Vec<(usize, usize)> = (0..prepared.height)
                .flat_map(|y| (0..prepared.width).map(move |x| (x, y)))
                .filter(|&(x, y)| prepared.data[y * prepared.width + x] > 0.5)
                .collect();
            if let Some(b) = placed.boxes.first() {
                prop_assert!(!bright.is_empty());
                let min = |v: &dyn Fn(&(usize, usize)) -> usize| bright.iter().map(v).min().unwrap() as f32;
                let max = |v: &dyn Fn(&(usize, usize)) -> usize| bright.iter().map(v).max().unwrap() as f32 + 1.0;
                let found = [min(&|p| p.0), min(&|p| p.1), max(&|p| p.0), max(&|p| p.1)];
                for (want, got) in [b.x1, b.y1, b.x2, b.y2].into_iter().zip(found) {
                    // The smoothed edge of the rectangle reaches one half within a pixel of the box.
                    prop_assert!((want - got).abs() <= 1.01, "{:?} {:?}", b, found);
                }
            }
        }
    }

    #[test]
    fn without_augmentation_boxes_are_scaled_alone() {
        let bbox = BBox::new(6.0, 4.0, 30.0, 20.0);
        let preprocess = Preprocess { min_size: 80, max_size: 1000, ..Preprocess::default() };
        let placed = Geometry::plain(&preprocess, SIZE).place(SIZE, &Labels::from(&record(bbox)), 1.0);
        assert_eq!(placed.boxes, vec![BBox::new(12.0, 8.0, 60.0, 40.0)]);
        assert_eq!((placed.classes, placed.crowds), (vec![2], vec![BBox::new(12.0, 8.0, 60.0, 40.0)]));
    }

    #[test]
    fn objects_that_are_mostly_cut_off_are_ignored() {
        let moved = Geometry { offset_x: -20, ..Geometry::unchanged(SIZE) };
        let mut cut_off = record(BBox::new(4.0, 5.0, 24.0, 25.0));
        cut_off.crowds.clear();
        let placed = moved.place(SIZE, &Labels::from(&cut_off), 1.0);
        assert!(placed.boxes.is_empty());
        assert_eq!(placed.crowds, vec![BBox::new(0.0, 5.0, 4.0, 25.0)]);
    }
}
