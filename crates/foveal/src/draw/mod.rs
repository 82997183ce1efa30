//! Drawing of boxes, class names and scores on images, readable on light and dark backgrounds.

mod canvas;
mod label;
mod sheet;

use foveal_base::printable;
use foveal_boxes::BBox;
use image::{Rgb, RgbImage, imageops};

use canvas::{Rect, outline};
use label::Label;
pub(crate) use sheet::{Tile, sheet, sheet_size};

/// One box to draw.
pub(crate) struct Mark {
    /// The box in pixels of the image.
    pub bbox: BBox,
    /// Class index, which selects the colour.
    pub class: u32,
    /// The text of the label; what it cannot show as letters is drawn as escapes.
    pub text: String,
}

/// Images whose longer side is shorter than this many pixels are enlarged to make room for the labels.
const SMALL: u32 = 640;
/// Highest factor by which a small image is enlarged.
const MAX_ENLARGEMENT: u32 = 4;
/// Pixels of the image's longer side per pixel of line width.
const PIXELS_PER_LINE: f32 = 400.0;
/// Pixels of the image's longer side per pixel of text height.
const PIXELS_PER_TEXT: f32 = 50.0;
/// The golden angle in turns, which keeps the hues of successive classes far apart.
const GOLDEN_TURN: f32 = 0.381_966;

/// Draws marks on a copy of an image. `marks` are in descending order of score; the first is drawn on top.
///
/// A small image is enlarged by an integer factor.
pub(crate) fn draw(image: &RgbImage, marks: &[Mark]) -> RgbImage {
    let longer = image.width().max(image.height()).max(1);
    let factor = SMALL.div_ceil(longer).clamp(1, MAX_ENLARGEMENT);
    let mut canvas = if factor > 1 {
        imageops::resize(image, image.width() * factor, image.height() * factor, imageops::FilterType::CatmullRom)
    } else {
        image.clone()
    };
    let longer = (longer * factor) as f32;
    let line = (longer / PIXELS_PER_LINE).round().max(2.0) as i64;
    let text_height = (longer / PIXELS_PER_TEXT).clamp(13.0, 60.0);
    draw_marks(&mut canvas, marks, factor as f32, line, text_height);
    canvas
}

/// Draws marks on an image that was enlarged by `scale`. Lines are `line` pixels wide, letters `text_height` pixels
/// high.
fn draw_marks(canvas: &mut RgbImage, marks: &[Mark], scale: f32, line: i64, text_height: f32) {
    let frames: Vec<Rect> = marks.iter().map(|mark| Rect::of(&mark.bbox.scale(scale, scale), canvas)).collect();
    // The mark with the best score is drawn last, on top.
    for (mark, frame) in marks.iter().zip(&frames).rev() {
        let color = color_of(mark.class);
        let halo = contrast(color);
        outline(canvas, &frame.grown(1), line + 2, halo);
        outline(canvas, frame, line, color);
    }
    let mut taken: Vec<Rect> = Vec::new();
    for (mark, frame) in marks.iter().zip(&frames) {
        let text = printable(&mark.text);
        let label = Label::new(&text, text_height);
        let place = label.place(frame, &taken, canvas);
        label.draw(canvas, &place, color_of(mark.class));
        taken.push(place);
    }
}

/// A saturated colour for each class index.
fn color_of(class: u32) -> Rgb<u8> {
    let hue = (class as f32 * GOLDEN_TURN + 0.58).fract() * 6.0;
    // Every second group of eight classes is darker, so that many classes stay distinct.
    let value = if class % 16 < 8 { 1.0 } else { 0.65 };
    let channel = |shift: f32| {
        let k = (hue + shift) % 6.0;
        let ramp = k.min(4.0 - k).clamp(0.0, 1.0);
        (255.0 * value * (1.0 - 0.85 * ramp)) as u8
    };
    Rgb([channel(5.0), channel(3.0), channel(1.0)])
}

/// Black or white, whichever has more contrast to the colour.
fn contrast(color: Rgb<u8>) -> Rgb<u8> {
    // Rec. 709 luma weights.
    let [r, g, b] = color.0.map(f32::from);
    if 0.2126 * r + 0.7152 * g + 0.0722 * b > 120.0 { Rgb([0, 0, 0]) } else { Rgb([255, 255, 255]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(bbox: BBox, text: &str) -> Mark {
        Mark { bbox, class: 3, text: text.to_owned() }
    }

    #[test]
    fn a_box_is_visible_on_light_and_on_dark_images() {
        for shade in [0, 255] {
            let image = RgbImage::from_pixel(700, 500, Rgb([shade; 3]));
            let drawn = draw(&image, &[mark(BBox::new(100.0, 100.0, 300.0, 300.0), "x 0.90")]);
            assert_eq!(*drawn.get_pixel(100, 200), color_of(3));
            assert_eq!(*drawn.get_pixel(200, 200), Rgb([shade; 3]));
            let inked = drawn.enumerate_pixels().filter(|(_, y, p)| *y < 100 && **p != Rgb([shade; 3])).count();
            assert!(inked > 200, "the label is above the box");
        }
    }

    #[test]
    fn any_text_and_any_box_can_be_drawn() {
        let image = RgbImage::new(40, 30);
        let boxes = [
            BBox::new(f32::NAN, -5.0, f32::INFINITY, 1e30),
            BBox::new(30.0, 20.0, 10.0, 5.0),
            BBox::new(0.0, 0.0, 40.0, 30.0),
        ];
        for text in ["", "猫 0.99", "سمك", "👩‍🚀 \u{0} \n", &"long ".repeat(100)] {
            let marks: Vec<Mark> = boxes.iter().map(|b| mark(*b, text)).collect();
            let drawn = draw(&image, &marks);
            assert_eq!(drawn.dimensions(), (160, 120));
        }
    }

    #[test]
    fn names_that_differ_in_what_cannot_be_seen_are_drawn_differently() {
        let image = RgbImage::new(640, 400);
        let drawn = |text: &str| draw(&image, &[mark(BBox::new(100.0, 100.0, 300.0, 300.0), text)]);
        for text in ["a\u{202e}b", "a\u{1b}[31mb", "a\nb", "a\u{200b}b"] {
            assert!(drawn(text) != drawn("ab"), "{text:?}");
        }
    }

    #[test]
    fn neighbouring_classes_have_distinct_colours() {
        for a in 0..12u32 {
            for b in a + 1..12 {
                let (p, q) = (color_of(a).0, color_of(b).0);
                let apart: u32 = p.iter().zip(q).map(|(&m, n)| u32::from(m.abs_diff(n))).sum();
                assert!(apart > 40, "classes {a} and {b}: {p:?} {q:?}");
            }
        }
    }
}
