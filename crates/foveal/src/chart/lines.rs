//! A chart of curves over common axes, with a legend.

use foveal_base::printable;
use plotters::prelude::*;

use super::{Area, Drawn, GRID, INK, Scale, color};

/// An axis of a chart.
pub(crate) struct Axis {
    /// Label of the axis.
    pub label: String,
    /// Ends of the axis.
    pub range: [f64; 2],
}

/// A curve of a chart.
pub(crate) struct Curve {
    /// Name in the legend.
    pub name: String,
    /// Points (x, y) in the order in which they are joined; points outside the axes are left out.
    pub points: Vec<(f64, f64)>,
}

/// A chart of curves over common axes.
pub(crate) struct Lines {
    /// Title of the chart.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// The curves, in the order of the legend.
    pub curves: Vec<Curve>,
}

/// Length of a line in the legend, in nominal pixels.
const SAMPLE: u32 = 18;

impl Lines {
    pub(super) fn draw<DB: DrawingBackend>(&self, area: &Area<DB>, scale: Scale) -> Drawn<DB> {
        let [x1, x2] = self.x.range;
        let [y1, y2] = self.y.range;
        let mut chart = ChartBuilder::on(area)
            .caption(printable(&self.title), scale.text(14.0))
            .margin(scale.px(10))
            .x_label_area_size(scale.px(40))
            .y_label_area_size(scale.px(52))
            .build_cartesian_2d(x1..x2, y1..y2)?;
        chart
            .configure_mesh()
            .bold_line_style(GRID.stroke_width(scale.px(1)))
            .light_line_style(TRANSPARENT)
            .axis_style(INK.stroke_width(scale.px(1)))
            .set_all_tick_mark_size(scale.px(4))
            .label_style(scale.text(11.0))
            .axis_desc_style(scale.text(12.0))
            .x_labels(6)
            .y_labels(6)
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .draw()?;
        for (index, curve) in self.curves.iter().enumerate() {
            let style = color(index).stroke_width(scale.px(2));
            let inside = |(x, y): &&(f64, f64)| (x1..=x2).contains(x) && (y1..=y2).contains(y);
            let points: Vec<(f64, f64)> = curve.points.iter().filter(inside).copied().collect();
            let sample = scale.px(SAMPLE) as i32;
            chart
                .draw_series(std::iter::once(PathElement::new(points, style)))?
                .label(printable(&curve.name))
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + sample, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .margin(scale.px(8))
            .legend_area_size(scale.px(SAMPLE + 8))
            .background_style(WHITE.mix(0.85))
            .border_style(GRID.stroke_width(scale.px(1)))
            .label_font(scale.text(11.0))
            .draw()
    }
}
