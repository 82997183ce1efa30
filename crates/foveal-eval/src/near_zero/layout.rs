//! The possible layouts of the four numbers of a box.

use foveal_boxes::BBox;
use foveal_coco::{Image, xywh_to_bbox};

/// Largest magnitude of numbers that are taken for fractions of the image rather than pixels.
const FRACTION: f64 = 1.5;

/// A layout of the four numbers of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// COCO's layout: `x, y, width, height` in pixels.
    Coco,
    Corners,
    Center,
    RowsFirst,
    CocoFractions,
    CornerFractions,
    CenterFractions,
}

impl Layout {
    /// All layouts except COCO's.
    pub(super) const OTHERS: [Self; 6] = [
        Self::Corners,
        Self::Center,
        Self::RowsFirst,
        Self::CocoFractions,
        Self::CornerFractions,
        Self::CenterFractions,
    ];

    /// The description of the layout in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Coco => "[x, y, width, height]",
            Self::Corners => "corners, [x1, y1, x2, y2]",
            Self::Center => "[center x, center y, width, height]",
            Self::RowsFirst => "[y, x, height, width]",
            Self::CocoFractions => "[x, y, width, height] in fractions of the image",
            Self::CornerFractions => "[x1, y1, x2, y2] in fractions of the image",
            Self::CenterFractions => "[center x, center y, width, height] in fractions of the image",
        }
    }

    /// The box in pixels that the four numbers give in this layout. Numbers that are not fractions give an empty box in
    /// the layouts of fractions.
    pub(super) fn read(self, [a, b, c, d]: [f64; 4], image: &Image) -> BBox {
        let centered = |[x, y, width, height]: [f64; 4]| [x - width / 2.0, y - height / 2.0, width, height];
        let (width, height) = (f64::from(image.width), f64::from(image.height));
        let pixels = [a * width, b * height, c * width, d * height];
        let is_fraction = [a, b, c, d].iter().all(|v| v.abs() <= FRACTION);
        let xywh = match self {
            Self::Coco => [a, b, c, d],
            Self::Corners => [a, b, c - a, d - b],
            Self::Center => centered([a, b, c, d]),
            Self::RowsFirst => [b, a, d, c],
            Self::CocoFractions | Self::CornerFractions | Self::CenterFractions if !is_fraction => [0.0; 4],
            Self::CocoFractions => pixels,
            Self::CornerFractions => [pixels[0], pixels[1], pixels[2] - pixels[0], pixels[3] - pixels[1]],
            Self::CenterFractions => centered(pixels),
        };
        xywh_to_bbox(&xywh)
    }
}
