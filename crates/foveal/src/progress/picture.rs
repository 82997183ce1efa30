//! Pictures of detections for the event file of a run.

use foveal_train::{DrawnDetection, Picture, RgbImage};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};

use crate::draw::{self, Mark};

/// Pixels of the longer side above which an image is made smaller.
const LONGEST: u32 = 640;
/// JPEG quality from 1 to 100.
const QUALITY: u8 = 80;

/// The image with its detections as a JPEG file, whose longer side has at most 640 pixels unless the image is small and
/// drawing enlarges it.
pub(super) fn draw(image: &RgbImage, detections: &[DrawnDetection]) -> Option<Picture> {
    let (width, height) = image.dimensions();
    let factor = (LONGEST as f32 / width.max(height).max(1) as f32).min(1.0);
    let side = |side: u32| ((side as f32 * factor).round() as u32).max(1);
    let (small_width, small_height) = (side(width), side(height));
    let smaller = (factor < 1.0).then(|| imageops::resize(image, small_width, small_height, FilterType::Triangle));
    let image = smaller.as_ref().unwrap_or(image);
    let mark = |found: &DrawnDetection| Mark {
        bbox: found.bbox.scale(factor, factor),
        class: found.class,
        text: format!("{} {:.2}", found.name, found.score),
    };
    let marks: Vec<Mark> = detections.iter().map(mark).collect();
    let drawn = draw::draw(image, &marks);
    let mut encoded = Vec::new();
    drawn.write_with_encoder(JpegEncoder::new_with_quality(&mut encoded, QUALITY)).ok()?;
    Some(Picture { height: drawn.height(), width: drawn.width(), encoded })
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_boxes::BBox;

    #[test]
    fn a_large_image_is_made_smaller_with_its_boxes() {
        let white = RgbImage::from_pixel(1280, 400, image::Rgb([255; 3]));
        let bbox = BBox::new(400.0, 100.0, 800.0, 300.0);
        let found = DrawnDetection { bbox, class: 3, name: "cat".to_owned(), score: 0.5 };
        let picture = draw(&white, &[found]).unwrap();
        assert_eq!((picture.width, picture.height), (640, 200));
        let decoded = image::load_from_memory(&picture.encoded).unwrap().to_rgb8();
        assert_eq!(decoded.dimensions(), (640, 200));
        // The left edge of the box, and a pixel away from it.
        let is_white = |x, y| decoded.get_pixel(x, y).0.iter().all(|v| *v > 240);
        assert!(!is_white(200, 100) && is_white(100, 180));
    }
}
