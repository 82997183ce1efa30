//! What is shown of a sample: its pixels and boxes, alone or beside the image as it is stored.

use foveal_boxes::BBox;
use foveal_data::{Dataset, Record};
use foveal_image::{RgbImage, resize_antialiased};
use image::{Rgb, imageops};

use super::Shown;
use crate::draw::{Mark, Tile};
use crate::page::{self, Card, MarkKind, jpeg_of_side};

/// Space in pixels between the stored image and the sample.
const GAP: u32 = 8;
/// The ground where an image is smaller than the one beside it.
const GROUND: Rgb<u8> = Rgb([255; 3]);

/// Pixels with boxes.
pub(super) struct View {
    image: RgbImage,
    /// The line below the image.
    caption: String,
    /// Objects with their classes.
    objects: Vec<(BBox, u32)>,
    /// Regions that training ignores.
    ignored: Vec<BBox>,
    /// Positive anchors with their classes.
    positives: Vec<(BBox, u32)>,
}

impl View {
    /// The sample as the network gets it, with its positive anchors if they are wanted.
    pub(super) fn of(shown: Shown, dataset: &Dataset, positives: bool) -> Self {
        let Shown { info, image, placed, targets } = shown;
        let anchors = targets.positives.iter().filter(|_| positives);
        Self {
            image,
            caption: format!("{} {}", info.image_id, dataset.record(info.index).file_name),
            objects: placed.boxes.iter().copied().zip(placed.classes.iter().copied()).collect(),
            ignored: placed.crowds,
            positives: anchors.map(|positive| (positive.anchor_box, positive.class)).collect(),
        }
    }

    /// The sample with the stored image, with the boxes of its record, on its left. The stored image is scaled so that
    /// it fits into the size of the sample.
    pub(super) fn beside(self, stored: &RgbImage, record: &Record) -> Self {
        let (width, height) = self.image.dimensions();
        let fit = |side: u32, own: u32| side as f32 / own.max(1) as f32;
        let scale = fit(width, stored.width()).min(fit(height, stored.height()));
        let scaled = |length: u32| ((length as f32 * scale).round() as u32).max(1);
        let small = resize_antialiased(stored, scaled(stored.width()), scaled(stored.height()));
        let left = small.width() + GAP;
        let mut image = RgbImage::from_pixel(left + width, height.max(small.height()), GROUND);
        imageops::replace(&mut image, &small, 0, 0);
        imageops::replace(&mut image, &self.image, i64::from(left), 0);
        let moved = |b: &BBox| BBox::new(b.x1 + left as f32, b.y1, b.x2 + left as f32, b.y2);
        let of_stored = record.objects.iter().map(|object| (object.bbox.scale(scale, scale), object.class));
        let of_sample = self.objects.iter().map(|(bbox, class)| (moved(bbox), *class));
        let ignored = record.crowds.iter().map(|crowd| crowd.scale(scale, scale));
        Self {
            image,
            caption: self.caption,
            objects: of_stored.chain(of_sample).collect(),
            ignored: ignored.chain(self.ignored.iter().map(moved)).collect(),
            positives: self.positives.iter().map(|(bbox, class)| (moved(bbox), *class)).collect(),
        }
    }

    /// Width and height in pixels.
    pub(super) fn size(&self) -> (u32, u32) {
        self.image.dimensions()
    }

    /// The view as an image of a contact sheet.
    pub(super) fn tile(self, dataset: &Dataset) -> Tile {
        let categories = dataset.label_map().categories();
        let mark = |(bbox, class): (BBox, u32)| Mark { bbox, class, text: categories[class as usize].name.clone() };
        Tile {
            image: self.image,
            caption: self.caption,
            marks: self.objects.into_iter().map(mark).collect(),
            hatched: self.ignored,
            thin: self.positives,
        }
    }

    /// The view as an image of a page, whose longest side is at most `side` pixels; `None` if it cannot be encoded.
    pub(super) fn card(self, side: u32) -> Option<Card> {
        let mark = |bbox: &BBox, class: u32, kind| {
            let xywh = [bbox.x1, bbox.y1, bbox.width(), bbox.height()];
            page::Mark { xywh, class: class as usize, kind }
        };
        // An ignored region has no class.
        let ignored = self.ignored.iter().map(|bbox| mark(bbox, u32::MAX, MarkKind::Ignored));
        let found = MarkKind::Object { found: Some(1.0) };
        let objects = self.objects.iter().map(|(bbox, class)| mark(bbox, *class, found));
        let marks = ignored.chain(objects).collect();
        let size = [self.image.width(), self.image.height()];
        Some(Card { jpeg: jpeg_of_side(&self.image, side)?, size, name: self.caption, marks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_data::Object;

    #[test]
    fn the_stored_image_is_scaled_into_the_size_of_the_sample() {
        let objects = vec![(BBox::new(0.0, 0.0, 5.0, 5.0), 1)];
        let view = View {
            image: RgbImage::from_pixel(60, 40, Rgb([9; 3])),
            caption: "1 a.png".to_owned(),
            objects,
            ignored: Vec::new(),
            positives: Vec::new(),
        };
        let record = Record {
            image_id: 1,
            file_name: "a.png".to_owned(),
            width: 100,
            height: 100,
            objects: vec![Object { bbox: BBox::new(10.0, 20.0, 30.0, 40.0), class: 1, area: 400.0 }],
            crowds: vec![BBox::new(50.0, 50.0, 100.0, 100.0)],
        };
        let both = view.beside(&RgbImage::from_pixel(100, 100, Rgb([200; 3])), &record);
        // 100x100 pixels become 40x40, and the sample begins after the gap.
        assert_eq!(both.size(), (40 + 8 + 60, 40));
        assert_eq!(both.objects, [(BBox::new(4.0, 8.0, 12.0, 16.0), 1), (BBox::new(48.0, 0.0, 53.0, 5.0), 1)]);
        assert_eq!(both.ignored, [BBox::new(20.0, 20.0, 40.0, 40.0)]);
        let at = |x: u32| both.image.get_pixel(x, 20).0[0];
        assert_eq!([at(20), at(44), at(70)], [200, 255, 9]);
    }
}
