//! The type of an axis-aligned box.

use serde::{Deserialize, Serialize};

/// An axis-aligned box in absolute pixels: left, top, right and bottom edge. The origin is the top left corner of the
/// image, x grows to the right, y grows downwards, and `x2 - x1` is the width (no "+ 1").
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BBox {
    /// Left edge: x coordinate in pixels from the left edge of the image.
    pub x1: f32,
    /// Top edge: y coordinate in pixels from the top edge of the image.
    pub y1: f32,
    /// Right edge: x coordinate in pixels from the left edge of the image.
    pub x2: f32,
    /// Bottom edge: y coordinate in pixels from the top edge of the image.
    pub y2: f32,
}

impl BBox {
    /// Makes a box from its left, top, right and bottom edges in pixels. The order of the edges is not checked.
    pub const fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x1, y1, x2, y2 }
    }

    /// Width `x2 - x1` in pixels; negative if the right edge is left of the left edge.
    pub fn width(&self) -> f32 {
        self.x2 - self.x1
    }

    /// Height `y2 - y1` in pixels; negative if the bottom edge is above the top edge.
    pub fn height(&self) -> f32 {
        self.y2 - self.y1
    }

    /// Area in square pixels: width times height. It is negative if exactly one of the two is negative.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// The centre of the box, `(x, y)` in pixels.
    pub fn center(&self) -> (f32, f32) {
        (self.x1 + 0.5 * self.width(), self.y1 + 0.5 * self.height())
    }

    /// Area of the intersection of both boxes in square pixels; 0 if they do not overlap.
    pub fn intersection(&self, other: &BBox) -> f32 {
        let width = (self.x2.min(other.x2) - self.x1.max(other.x1)).max(0.0);
        let height = (self.y2.min(other.y2) - self.y1.max(other.y1)).max(0.0);
        width * height
    }

    /// The part of the box that lies inside an image of `width` by `height` pixels, as in torchvision's
    /// `clip_boxes_to_image`. A box that lies outside the image becomes degenerate, with a width or height of 0.
    pub fn clip(&self, width: f32, height: f32) -> BBox {
        let x = |v: f32| v.max(0.0).min(width);
        let y = |v: f32| v.max(0.0).min(height);
        BBox::new(x(self.x1), y(self.y1), x(self.x2), y(self.y2))
    }

    /// The box after the image was resized: x coordinates are multiplied by `sx`, y coordinates by `sy`.
    pub fn scale(&self, sx: f32, sy: f32) -> BBox {
        BBox::new(self.x1 * sx, self.y1 * sy, self.x2 * sx, self.y2 * sy)
    }

    /// The box after an image of `width` pixels was mirrored left to right.
    pub fn flip_horizontal(&self, width: f32) -> BBox {
        BBox::new(width - self.x2, self.y1, width - self.x1, self.y2)
    }

    /// The box after an image of `height` pixels was mirrored top to bottom.
    pub fn flip_vertical(&self, height: f32) -> BBox {
        BBox::new(self.x1, height - self.y2, self.x2, height - self.y1)
    }

    /// Whether the box cannot contain an object: its width or height is not positive, or an edge is not finite.
    pub fn is_degenerate(&self) -> bool {
        let finite = [self.x1, self.y1, self.x2, self.y2].iter().all(|v| v.is_finite());
        !(finite && self.x2 > self.x1 && self.y2 > self.y1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry() {
        let b = BBox::new(1.0, 2.0, 5.0, 10.0);
        assert_eq!((b.width(), b.height(), b.area(), b.center()), (4.0, 8.0, 32.0, (3.0, 6.0)));
        assert_eq!(b.clip(4.0, 6.0), BBox::new(1.0, 2.0, 4.0, 6.0));
        assert_eq!(b.scale(2.0, 0.5), BBox::new(2.0, 1.0, 10.0, 5.0));
        assert_eq!(b.flip_horizontal(20.0), BBox::new(15.0, 2.0, 19.0, 10.0));
        assert_eq!(b.flip_vertical(20.0), BBox::new(1.0, 10.0, 5.0, 18.0));
        assert_eq!(b.intersection(&BBox::new(3.0, 0.0, 9.0, 4.0)), 4.0);
        assert_eq!(b.intersection(&BBox::new(5.0, 2.0, 9.0, 4.0)), 0.0);
    }

    #[test]
    fn degenerate() {
        assert!(!BBox::new(0.0, 0.0, 1.0, 1.0).is_degenerate());
        for b in [
            BBox::new(0.0, 0.0, 0.0, 1.0),
            BBox::new(0.0, 2.0, 1.0, 1.0),
            BBox::new(0.0, 0.0, f32::INFINITY, 1.0),
            BBox::new(0.0, f32::NAN, 1.0, 1.0),
        ] {
            assert!(b.is_degenerate(), "{b:?}");
        }
    }
}
