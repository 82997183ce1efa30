//! The box type.

use serde::{Deserialize, Serialize};

/// An axis-aligned box in absolute pixels: left, top, right, bottom. The origin is the image's top left corner and
/// `x2 - x1` is the width (no "+ 1").
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BBox {
    /// Left edge in pixels.
    pub x1: f32,
    /// Top edge in pixels.
    pub y1: f32,
    /// Right edge in pixels.
    pub x2: f32,
    /// Bottom edge in pixels.
    pub y2: f32,
}

impl BBox {
    /// A box from its four edges in pixels.
    pub const fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x1, y1, x2, y2 }
    }

    /// Width in pixels; negative for an inverted box.
    pub fn width(&self) -> f32 {
        self.x2 - self.x1
    }

    /// Height in pixels; negative for an inverted box.
    pub fn height(&self) -> f32 {
        self.y2 - self.y1
    }

    /// Width times height in square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// The centre `(x, y)` in pixels.
    pub fn center(&self) -> (f32, f32) {
        (self.x1 + 0.5 * self.width(), self.y1 + 0.5 * self.height())
    }

    /// Area common to both boxes in square pixels, 0 where they do not overlap.
    pub fn intersection(&self, other: &BBox) -> f32 {
        let width = (self.x2.min(other.x2) - self.x1.max(other.x1)).max(0.0);
        let height = (self.y2.min(other.y2) - self.y1.max(other.y1)).max(0.0);
        width * height
    }

    /// The part inside an image of `width` by `height` pixels. A box outside of it becomes degenerate.
    pub fn clip(&self, width: f32, height: f32) -> BBox {
        let x = |v: f32| v.max(0.0).min(width);
        let y = |v: f32| v.max(0.0).min(height);
        BBox::new(x(self.x1), y(self.y1), x(self.x2), y(self.y2))
    }

    /// The box in an image resized by the factors `sx` and `sy`.
    pub fn scale(&self, sx: f32, sy: f32) -> BBox {
        BBox::new(self.x1 * sx, self.y1 * sy, self.x2 * sx, self.y2 * sy)
    }

    /// The box in the left-right mirrored image of that width in pixels.
    pub fn flip_horizontal(&self, width: f32) -> BBox {
        BBox::new(width - self.x2, self.y1, width - self.x1, self.y2)
    }

    /// The box in the upside-down mirrored image of that height in pixels.
    pub fn flip_vertical(&self, height: f32) -> BBox {
        BBox::new(self.x1, height - self.y2, self.x2, height - self.y1)
    }

    /// Whether the box cannot hold an object: no width, no height, or an edge that is not finite.
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
