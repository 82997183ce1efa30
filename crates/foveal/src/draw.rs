//! Drawing of boxes, class names and scores on images, readable on light and dark backgrounds.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use foveal_base::printable;
use foveal_boxes::BBox;
use image::{Rgb, RgbImage, imageops};

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
    let scale = factor as f32;
    let frames: Vec<Rect> = marks.iter().map(|mark| Rect::of(&mark.bbox.scale(scale, scale), &canvas)).collect();
    // The mark with the best score is drawn last, on top.
    for (mark, frame) in marks.iter().zip(&frames).rev() {
        let color = color_of(mark.class);
        let halo = contrast(color);
        outline(&mut canvas, &frame.grown(1), line + 2, halo);
        outline(&mut canvas, frame, line, color);
    }
    let mut taken: Vec<Rect> = Vec::new();
    for (mark, frame) in marks.iter().zip(&frames) {
        let text = printable(&mark.text);
        let label = Label::new(&text, text_height);
        let place = label.place(frame, &taken, &canvas);
        label.draw(&mut canvas, &place, color_of(mark.class));
        taken.push(place);
    }
    canvas
}

/// A rectangle in integer pixels; `x2` and `y2` are exclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rect {
    x1: i64,
    y1: i64,
    x2: i64,
    y2: i64,
}

impl Rect {
    fn of(bbox: &BBox, canvas: &RgbImage) -> Self {
        // A cast from f32 saturates and turns NaN into 0, so every box becomes a rectangle.
        let clamp = |value: f32, limit: u32| (value.round() as i64).clamp(0, i64::from(limit));
        Self {
            x1: clamp(bbox.x1, canvas.width()),
            y1: clamp(bbox.y1, canvas.height()),
            x2: clamp(bbox.x2, canvas.width()),
            y2: clamp(bbox.y2, canvas.height()),
        }
    }

    fn grown(&self, by: i64) -> Self {
        Self { x1: self.x1 - by, y1: self.y1 - by, x2: self.x2 + by, y2: self.y2 + by }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.x1 < other.x2 && other.x1 < self.x2 && self.y1 < other.y2 && other.y1 < self.y2
    }
}

fn fill(canvas: &mut RgbImage, rect: &Rect, color: Rgb<u8>) {
    let (width, height) = (i64::from(canvas.width()), i64::from(canvas.height()));
    for y in rect.y1.max(0)..rect.y2.min(height) {
        for x in rect.x1.max(0)..rect.x2.min(width) {
            canvas.put_pixel(x as u32, y as u32, color);
        }
    }
}

/// Draws the outline of a rectangle, `width` pixels wide, inside its edges.
fn outline(canvas: &mut RgbImage, rect: &Rect, width: i64, color: Rgb<u8>) {
    let Rect { x1, y1, x2, y2 } = *rect;
    let bars = [
        Rect { x1, y1, x2, y2: (y1 + width).min(y2) },
        Rect { x1, y1: (y2 - width).max(y1), x2, y2 },
        Rect { x1, y1, x2: (x1 + width).min(x2), y2 },
        Rect { x1: (x2 - width).max(x1), y1, x2, y2 },
    ];
    for bar in &bars {
        fill(canvas, bar, color);
    }
}

struct Label<'a> {
    text: &'a str,
    scale: PxScale,
    width: i64,
    height: i64,
    margin: i64,
}

impl<'a> Label<'a> {
    fn new(text: &'a str, height: f32) -> Self {
        let scale = PxScale::from(height);
        let font = font().as_scaled(scale);
        let advance: f32 = text.chars().map(|letter| font.h_advance(font.glyph_id(letter))).sum();
        let margin = (height / 6.0).round().max(2.0) as i64;
        Self {
            text,
            scale,
            width: advance.ceil() as i64 + 2 * margin,
            height: font.height().ceil() as i64 + margin,
            margin,
        }
    }

    /// Where to draw the label: the first free place above, inside or below the box; if none is free, the first place
    /// inside the image.
    fn place(&self, frame: &Rect, taken: &[Rect], canvas: &RgbImage) -> Rect {
        let (width, height) = (i64::from(canvas.width()), i64::from(canvas.height()));
        let left = |x: i64| x.clamp(0, (width - self.width).max(0));
        let at = |x: i64, y: i64| Rect { x1: left(x), y1: y, x2: left(x) + self.width, y2: y + self.height };
        let candidates = [
            at(frame.x1, frame.y1 - self.height),
            at(frame.x1, frame.y1),
            at(frame.x1, frame.y2),
            at(frame.x2 - self.width, frame.y1 - self.height),
            at(frame.x1, frame.y2 - self.height),
        ];
        let fits = |r: &&Rect| r.y1 >= 0 && r.y2 <= height;
        candidates
            .iter()
            .filter(fits)
            .find(|r| !taken.iter().any(|other| other.overlaps(r)))
            .or_else(|| candidates.iter().find(fits))
            .copied()
            .unwrap_or(at(frame.x1, 0))
    }

    fn draw(&self, canvas: &mut RgbImage, place: &Rect, color: Rgb<u8>) {
        let ink = contrast(color);
        fill(canvas, &place.grown(1), ink);
        fill(canvas, place, color);
        let font = font().as_scaled(self.scale);
        let mut x = (place.x1 + self.margin) as f32;
        let baseline = (place.y1 + self.margin / 2) as f32 + font.ascent();
        for letter in self.text.chars() {
            let id = font.glyph_id(letter);
            let glyph = id.with_scale_and_position(self.scale, point(x, baseline));
            x += font.h_advance(id);
            let Some(shape) = font.outline_glyph(glyph) else {
                continue;
            };
            let origin = shape.px_bounds().min;
            shape.draw(|dx, dy, coverage| {
                let (px, py) = (origin.x as i64 + i64::from(dx), origin.y as i64 + i64::from(dy));
                blend(canvas, px, py, ink, coverage);
            });
        }
    }
}

fn blend(canvas: &mut RgbImage, x: i64, y: i64, ink: Rgb<u8>, coverage: f32) {
    let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else {
        return;
    };
    if let Some(pixel) = canvas.get_pixel_mut_checked(x, y) {
        let coverage = coverage.clamp(0.0, 1.0);
        for (below, above) in pixel.0.iter_mut().zip(ink.0) {
            *below = (f32::from(*below) * (1.0 - coverage) + f32::from(above) * coverage) as u8;
        }
    }
}

fn font() -> &'static FontRef<'static> {
    static FONT: OnceLock<FontRef<'static>> = OnceLock::new();
    FONT.get_or_init(|| FontRef::try_from_slice(dejavu::sans::regular()).expect("the compiled-in font is valid"))
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
