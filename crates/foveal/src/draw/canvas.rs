//! Rectangles on an image.

use foveal_boxes::BBox;
use image::{Rgb, RgbImage};

/// A rectangle in integer pixels; `x2` and `y2` are exclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub x1: i64,
    pub y1: i64,
    pub x2: i64,
    pub y2: i64,
}

impl Rect {
    /// The rectangle of a box, inside the canvas.
    pub(super) fn of(bbox: &BBox, canvas: &RgbImage) -> Self {
        // A cast from f32 saturates and turns NaN into 0, so every box becomes a rectangle.
        let clamp = |value: f32, limit: u32| (value.round() as i64).clamp(0, i64::from(limit));
        Self {
            x1: clamp(bbox.x1, canvas.width()),
            y1: clamp(bbox.y1, canvas.height()),
            x2: clamp(bbox.x2, canvas.width()),
            y2: clamp(bbox.y2, canvas.height()),
        }
    }

    /// The rectangle with every edge moved outwards by so many pixels.
    pub(super) fn grown(&self, by: i64) -> Self {
        Self { x1: self.x1 - by, y1: self.y1 - by, x2: self.x2 + by, y2: self.y2 + by }
    }

    /// Whether the two rectangles have a pixel in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.x1 < other.x2 && other.x1 < self.x2 && self.y1 < other.y2 && other.y1 < self.y2
    }
}

/// Fills the part of a rectangle that is on the canvas.
pub(super) fn fill(canvas: &mut RgbImage, rect: &Rect, color: Rgb<u8>) {
    let (width, height) = (i64::from(canvas.width()), i64::from(canvas.height()));
    for y in rect.y1.max(0)..rect.y2.min(height) {
        for x in rect.x1.max(0)..rect.x2.min(width) {
            canvas.put_pixel(x as u32, y as u32, color);
        }
    }
}

/// Draws the outline of a rectangle, `width` pixels wide, inside its edges.
pub(super) fn outline(canvas: &mut RgbImage, rect: &Rect, width: i64, color: Rgb<u8>) {
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

/// Mixes a pixel with a colour, which covers the given fraction of it.
pub(super) fn blend(canvas: &mut RgbImage, x: i64, y: i64, ink: Rgb<u8>, coverage: f32) {
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

/// Pixels from one stripe of a hatching to the next stripe of the same colour, along a row.
const STRIPES: i64 = 14;
/// Width of a stripe of a hatching in pixels, along a row.
const STRIPE: i64 = 2;

/// Draws diagonal stripes, white beside black, over a rectangle, and its outline.
pub(super) fn hatch(canvas: &mut RgbImage, rect: &Rect) {
    let (white, black) = (Rgb([255; 3]), Rgb([0; 3]));
    for y in rect.y1..rect.y2 {
        for x in rect.x1..rect.x2 {
            match (x + y).rem_euclid(STRIPES) / STRIPE {
                0 => blend(canvas, x, y, white, 0.7),
                1 => blend(canvas, x, y, black, 0.7),
                _ => {}
            }
        }
    }
    outline(canvas, rect, 2, black);
    outline(canvas, rect, 1, white);
}

/// Draws the outline of a rectangle, one pixel wide and half transparent.
pub(super) fn thin_outline(canvas: &mut RgbImage, rect: &Rect, color: Rgb<u8>) {
    for x in rect.x1..rect.x2 {
        blend(canvas, x, rect.y1, color, 0.5);
        blend(canvas, x, rect.y2 - 1, color, 0.5);
    }
    for y in rect.y1..rect.y2 {
        blend(canvas, rect.x1, y, color, 0.5);
        blend(canvas, rect.x2 - 1, y, color, 0.5);
    }
}
