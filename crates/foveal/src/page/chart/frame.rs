//! The frame of a chart: its axes, their ticks, and the place of the plot between them.

use super::axis::Scale;
use super::{px, svg};
use crate::page::html::{Element, Html, el};

/// Size of a chart in units of the image.
pub(super) const WIDTH: f64 = 480.0;
pub(super) const HEIGHT: f64 = 270.0;
const LEFT: f64 = 68.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 46.0;

/// The place of the plot of a chart, and its scales.
pub(super) struct Frame {
    pub(super) x: Scale,
    pub(super) y: Scale,
}

impl Frame {
    /// The horizontal place of a value.
    pub(super) fn x(&self, value: f64) -> f64 {
        LEFT + self.x.at(value) * (WIDTH - LEFT - RIGHT)
    }

    /// The vertical place of a value, which grows upwards.
    pub(super) fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.at(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// The image with axes, their ticks and labels, and no values yet.
    pub(super) fn image(&self, description: &str, labels: [&str; 2]) -> Element {
        let [x_label, y_label] = labels;
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let mut grid = Html::new();
        for (value, label) in self.y.ticks() {
            let y = self.y(value);
            grid.push(line([LEFT, y, right, y]).class("grid"));
            grid.push(words(LEFT - 6.0, y + 4.5, &label).attr("text-anchor", "end"));
        }
        for (value, label) in self.x.ticks() {
            let x = self.x(value);
            grid.push(line([x, bottom, x, bottom + 4.0]).class("axis"));
            grid.push(words(x, bottom + 18.0, &label).attr("text-anchor", "middle"));
        }
        grid.push(line([LEFT, bottom, right, bottom]).class("axis"));
        grid.push(words((LEFT + right) / 2.0, HEIGHT - 8.0, x_label).attr("text-anchor", "middle"));
        let (x, y) = (14.0, (TOP + bottom) / 2.0);
        let turned = words(x, y, y_label).attr("text-anchor", "middle");
        grid.push(turned.attr("transform", format!("rotate(-90 {} {})", px(x), px(y))));
        svg(WIDTH, HEIGHT, description).child(grid)
    }
}

/// A line from `x1, y1` to `x2, y2`.
pub(super) fn line([x1, y1, x2, y2]: [f64; 4]) -> Element {
    el("line").attr("x1", px(x1)).attr("y1", px(y1)).attr("x2", px(x2)).attr("y2", px(y2))
}

/// A rectangle.
pub(super) fn rect(x: f64, y: f64, width: f64, height: f64) -> Element {
    el("rect").attr("x", px(x)).attr("y", px(y)).attr("width", px(width)).attr("height", px(height))
}

/// Text whose baseline begins at `x, y`.
pub(super) fn words(x: f64, y: f64, text: &str) -> Element {
    el("text").attr("x", px(x)).attr("y", px(y)).text(text)
}
