//! The possible layouts of the four numbers of a box.

use foveal_boxes::BBox;
use foveal_coco::{Image, xywh_to_bbox};

/// Largest magnitude of numbers that are taken for fractions of the image rather than pixels, relative to the number
/// that stands for the whole image.
const FRACTION: f64 = 1.5;

/// The meaning of the four numbers of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// COCO's: `x, y, width, height`.
    Coco,
    Corners,
    Center,
    RowsFirst,
    SizeSwapped,
    RowCorners,
    AxisCorners,
}

/// A layout of the four numbers of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    order: Order,
    /// The number that stands for the width or height of the image; 0 for numbers in pixels.
    whole: u16,
}

const fn pixels(order: Order) -> Layout {
    Layout { order, whole: 0 }
}

const fn parts(order: Order, whole: u16) -> Layout {
    Layout { order, whole }
}

impl Layout {
    /// COCO's layout: `x, y, width, height` in pixels.
    pub(crate) const COCO: Self = pixels(Order::Coco);

    /// All layouts except COCO's.
    pub(crate) const OTHERS: [Self; 18] = [
        pixels(Order::Corners),
        pixels(Order::Center),
        pixels(Order::RowsFirst),
        parts(Order::Coco, 1),
        parts(Order::Corners, 1),
        parts(Order::Center, 1),
        pixels(Order::RowCorners),
        pixels(Order::SizeSwapped),
        pixels(Order::AxisCorners),
        parts(Order::RowsFirst, 1),
        parts(Order::RowCorners, 1),
        parts(Order::Coco, 100),
        parts(Order::Corners, 100),
        parts(Order::Center, 100),
        parts(Order::Coco, 1000),
        parts(Order::Corners, 1000),
        parts(Order::Center, 1000),
        parts(Order::RowCorners, 1000),
    ];

    /// Whether the numbers are parts of the image rather than pixels.
    pub(crate) fn is_fraction(self) -> bool {
        self.whole > 0
    }

    /// The description of the layout in messages.
    pub(crate) fn name(self) -> String {
        let order = match self.order {
            Order::Coco => "[x, y, width, height]",
            Order::Corners if self.whole == 0 => "corners, [x1, y1, x2, y2]",
            Order::Corners => "[x1, y1, x2, y2]",
            Order::Center => "[center x, center y, width, height]",
            Order::RowsFirst => "[y, x, height, width]",
            Order::SizeSwapped => "[x, y, height, width]",
            Order::RowCorners => "[y1, x1, y2, x2]",
            Order::AxisCorners => "[x1, x2, y1, y2]",
        };
        match self.whole {
            0 => order.to_owned(),
            1 => format!("{order} in fractions of the image"),
            100 => format!("{order} in percent of the image"),
            whole => format!("{order} in parts of the image from 0 to {whole}"),
        }
    }

    /// The box in pixels that the four numbers give in this layout. Numbers that are not fractions give an empty box in
    /// the layouts of fractions.
    pub(crate) fn read(self, bbox: [f64; 4], image: &Image) -> BBox {
        xywh_to_bbox(&self.xywh(bbox, image))
    }

    /// The box as `x, y, width, height` in pixels that the four numbers give in this layout. Numbers that are not
    /// fractions give an empty box in the layouts of fractions.
    pub(crate) fn xywh(self, bbox: [f64; 4], image: &Image) -> [f64; 4] {
        let [a, b, c, d] = bbox;
        let [x, y, width, height] = match self.order {
            Order::Coco => [a, b, c, d],
            Order::Corners => [a, b, c - a, d - b],
            Order::Center => [a - c / 2.0, b - d / 2.0, c, d],
            Order::RowsFirst => [b, a, d, c],
            Order::SizeSwapped => [a, b, d, c],
            Order::RowCorners => [b, a, d - b, c - a],
            Order::AxisCorners => [a, c, b - a, d - c],
        };
        if self.whole == 0 {
            return [x, y, width, height];
        }
        let whole = f64::from(self.whole);
        if bbox.iter().any(|v| v.abs() > FRACTION * whole) {
            return [0.0; 4];
        }
        let (across, down) = (f64::from(image.width) / whole, f64::from(image.height) / whole);
        [x * across, y * down, width * across, height * down]
    }
}
