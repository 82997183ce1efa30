//! Images of a page: crops, and JPEG files of a limited size.

use foveal_boxes::BBox;
use foveal_image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::imageops;

/// Longest sides in pixels that are tried for an image, until it is small enough.
const SIDES: [u32; 6] = [520, 420, 340, 260, 200, 140];
const JPEG_QUALITY: u8 = 72;
/// Length in pixels that a crop at least has around its box, and share of the box's longer side.
const AROUND: f32 = 24.0;
const AROUND_SHARE: f32 = 0.75;

/// The image as a JPEG file of at most `bytes`, or of the smallest size that is tried; `None` if it cannot be encoded.
pub(crate) fn jpeg(image: &RgbImage, bytes: usize) -> Option<Vec<u8>> {
    let longest = image.width().max(image.height());
    let mut last = None;
    // Sizes above that of the image give the same file.
    for side in SIDES.into_iter().enumerate().filter(|(n, side)| *n == 0 || *side < longest).map(|(_, side)| side) {
        let file = jpeg_of_side(image, side)?;
        let fits = file.len() <= bytes;
        last = Some(file);
        if fits {
            break;
        }
    }
    last
}

/// The image as a JPEG file whose longest side is at most `side` pixels; `None` if it cannot be encoded.
pub(crate) fn jpeg_of_side(image: &RgbImage, side: u32) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let longest = image.width().max(image.height());
    let encoder = JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY);
    if longest > side {
        let scaled = |length: u32| (u64::from(length) * u64::from(side) / u64::from(longest)).max(1) as u32;
        let small = imageops::thumbnail(image, scaled(image.width()), scaled(image.height()));
        small.write_with_encoder(encoder).ok()?;
    } else {
        image.write_with_encoder(encoder).ok()?;
    }
    Some(out)
}

/// A box with what a crop shows around it.
pub(crate) fn around(bbox: &BBox) -> BBox {
    let by = AROUND.max(AROUND_SHARE * bbox.width().max(bbox.height()));
    BBox::new(bbox.x1 - by, bbox.y1 - by, bbox.x2 + by, bbox.y2 + by)
}

/// The part of an image inside a region, of at least one pixel, and the left and top edge of the part in pixels of the
/// image.
pub(crate) fn crop(image: &RgbImage, region: &BBox) -> (RgbImage, [u32; 2]) {
    let region = region.clip(image.width() as f32, image.height() as f32);
    let left = (region.x1.floor() as u32).min(image.width().saturating_sub(1));
    let top = (region.y1.floor() as u32).min(image.height().saturating_sub(1));
    let size = [region.width(), region.height()].map(|value| (value.ceil() as u32).max(1));
    (imageops::crop_imm(image, left, top, size[0], size[1]).to_image(), [left, top])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_made_smaller_until_they_fit() {
        let image = RgbImage::from_fn(192, 192, |x, y| image::Rgb([(x * y) as u8, (x * 7) as u8, (x ^ y) as u8]));
        let [large, small] = [100_000, 4_000].map(|bytes| jpeg(&image, bytes).unwrap());
        assert!(small.len() < large.len(), "{} {}", large.len(), small.len());
        assert_eq!(image::load_from_memory(&large).unwrap().width(), image.width());
        assert_eq!(image::load_from_memory(&small).unwrap().width(), 140);
    }

    #[test]
    fn a_crop_has_a_pixel_wherever_its_region_is() {
        let image = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let (part, place) = crop(&image, &BBox::new(10.4, 5.0, 20.0, 300.0));
        assert_eq!((part.dimensions(), place, part.get_pixel(0, 0).0), ((10, 25), [10, 5], [10, 5, 0]));
        for outside in [[50.0, 50.0, 60.0, 60.0], [-9.0, -9.0, -1.0, -1.0], [f32::NAN; 4]] {
            let [x1, y1, x2, y2] = outside;
            assert!(crop(&image, &BBox::new(x1, y1, x2, y2)).0.width() >= 1);
        }
    }
}
