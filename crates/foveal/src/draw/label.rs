//! Text on a coloured ground.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use image::{Rgb, RgbImage};

use super::canvas::{Rect, blend, fill};
use super::contrast;

/// A line of text with its size in pixels.
pub(super) struct Label<'a> {
    text: &'a str,
    scale: PxScale,
    width: i64,
    pub height: i64,
    margin: i64,
}

impl<'a> Label<'a> {
    /// The label of a text, with letters of the given height in pixels.
    pub(super) fn new(text: &'a str, height: f32) -> Self {
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
    pub(super) fn place(&self, frame: &Rect, taken: &[Rect], canvas: &RgbImage) -> Rect {
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

    /// Draws the label on a ground of this colour.
    pub(super) fn draw(&self, canvas: &mut RgbImage, place: &Rect, color: Rgb<u8>) {
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

fn font() -> &'static FontRef<'static> {
    static FONT: OnceLock<FontRef<'static>> = OnceLock::new();
    FONT.get_or_init(|| FontRef::try_from_slice(dejavu::sans::regular()).expect("the compiled-in font is valid"))
}
