//! Coding of a box relative to an anchor (Girshick et al., "Rich feature hierarchies", arXiv 1311.2524, appendix C),
//! with the weights (1, 1, 1, 1) that RetinaNet uses.

use crate::BBox;
use serde::{Deserialize, Serialize};

/// Upper bound of `dw` and `dh` when a box is decoded: ln(1000 / 16), as in Detectron and torchvision. It keeps the
/// exponential finite.
pub const MAX_LOG_RATIO: f32 = 4.135_166_6;

/// A box relative to an anchor: the shift of the centre in anchor widths and heights, and the logarithms of the ratios
/// of the sizes (arXiv 1311.2524, appendix C).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Shift of the centre to the right, as a fraction of the anchor's width.
    pub dx: f32,
    /// Shift of the centre downwards, as a fraction of the anchor's height.
    pub dy: f32,
    /// Natural logarithm of the box width divided by the anchor width.
    pub dw: f32,
    /// Natural logarithm of the box height divided by the anchor height.
    pub dh: f32,
}

impl Delta {
    /// Returns the four values in the order of a model's output: `[dx, dy, dw, dh]`.
    pub const fn to_array(self) -> [f32; 4] {
        [self.dx, self.dy, self.dw, self.dh]
    }

    /// Makes a delta from four values in the order of a model's output: `[dx, dy, dw, dh]`.
    pub const fn from_array([dx, dy, dw, dh]: [f32; 4]) -> Self {
        Self { dx, dy, dw, dh }
    }
}

/// Encodes the box of an object relative to an anchor: the regression target of the box head (arXiv 1311.2524,
/// appendix C; torchvision's `BoxCoder` with weights 1). Both boxes are in pixels of the same image. The result is not
/// finite if either box is degenerate.
pub fn encode(anchor: &BBox, object: &BBox) -> Delta {
    let ((ax, ay), (ox, oy)) = (anchor.center(), object.center());
    Delta {
        dx: (ox - ax) / anchor.width(),
        dy: (oy - ay) / anchor.height(),
        dw: (object.width() / anchor.width()).ln(),
        dh: (object.height() / anchor.height()).ln(),
    }
}

/// Decodes a delta relative to an anchor into a box in pixels, the inverse of [`encode`] (torchvision's `BoxCoder` with
/// weights 1). Before the exponential, `dw` and `dh` are limited to [`MAX_LOG_RATIO`]. A NaN in the delta gives NaN in
/// the box.
pub fn decode(anchor: &BBox, delta: Delta) -> BBox {
    let (width, height) = (anchor.width(), anchor.height());
    let (x, y) = anchor.center();
    let bounded = |v: f32| if v > MAX_LOG_RATIO { MAX_LOG_RATIO } else { v };
    let (cx, cy) = (delta.dx * width + x, delta.dy * height + y);
    let (half_width, half_height) = (0.5 * (bounded(delta.dw).exp() * width), 0.5 * (bounded(delta.dh).exp() * height));
    BBox::new(cx - half_width, cy - half_height, cx + half_width, cy + half_height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Half a width right, a quarter height down, twice as wide, half as high.
        let anchor = BBox::new(10.0, 20.0, 30.0, 60.0);
        let object = BBox::new(10.0, 40.0, 50.0, 60.0);
        let delta = encode(&anchor, &object);
        let ln2 = std::f32::consts::LN_2;
        assert_eq!(delta.to_array(), [0.5, 0.25, ln2, -ln2]);
        assert_eq!(decode(&anchor, Delta::from_array([0.5, 0.25, 0.0, 0.0])), BBox::new(20.0, 30.0, 40.0, 70.0));
    }

    #[test]
    fn growth_is_bounded() {
        assert_eq!(MAX_LOG_RATIO, (1000.0f64 / 16.0).ln() as f32);
        let grown = decode(&BBox::new(0.0, 0.0, 16.0, 16.0), Delta { dw: 100.0, ..Delta::default() });
        assert!((grown.width() - 1000.0).abs() < 1e-3);
        assert!(decode(&BBox::new(0.0, 0.0, 16.0, 16.0), Delta { dw: f32::NAN, ..Delta::default() }).x1.is_nan());
    }
}
