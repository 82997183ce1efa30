//! A chart of rows with one value and its interval each.

use foveal_base::printable;
use plotters::prelude::*;

use super::{Area, Drawn, GRID, INK, Scale, color};

/// One row of the chart.
pub(crate) struct Interval {
    /// Title of the row.
    pub name: String,
    /// Lower end, middle and upper end of the interval; `None` if there is no value.
    pub range: Option<[f64; 3]>,
    /// Single values, drawn as circles.
    pub dots: Vec<f64>,
    /// Text after the title; may be empty.
    pub note: String,
}

/// Rows over a common axis. A row has the colour of the curve with its index.
pub(crate) struct Intervals {
    /// Title of the chart.
    pub title: String,
    /// Ends of the axis.
    pub range: [f64; 2],
    /// The rows, from top to bottom.
    pub rows: Vec<Interval>,
}

impl Intervals {
    pub(super) fn draw<DB: DrawingBackend>(&self, area: &Area<DB>, scale: Scale) -> Drawn<DB> {
        let [x1, x2] = self.range;
        let count = self.rows.len().max(1) as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(printable(&self.title), scale.text(14.0))
            .margin(scale.px(10))
            .x_label_area_size(scale.px(40))
            .build_cartesian_2d(x1..x2, 0.0..count)?;
        chart
            .configure_mesh()
            .bold_line_style(GRID.stroke_width(scale.px(1)))
            .light_line_style(TRANSPARENT)
            .axis_style(INK.stroke_width(scale.px(1)))
            .set_all_tick_mark_size(scale.px(4))
            .label_style(scale.text(11.0))
            .x_labels(6)
            .disable_y_mesh()
            .disable_y_axis()
            .draw()?;
        for (index, row) in self.rows.iter().enumerate() {
            // Each row has the height 1, with its text above its interval.
            let (text, line) = (count - index as f64 - 0.12, count - index as f64 - 0.68);
            let color = color(index);
            let title = if row.note.is_empty() { row.name.clone() } else { format!("{}: {}", row.name, row.note) };
            let title = printable(&title).into_owned();
            let start = x1 + 0.01 * (x2 - x1);
            chart.draw_series(std::iter::once(Text::new(title, (start, text), scale.text(11.0))))?;
            if let Some([low, middle, high]) = row.range {
                let thick = color.stroke_width(scale.px(2));
                chart.draw_series(std::iter::once(PathElement::new(vec![(low, line), (high, line)], thick)))?;
                chart.draw_series(std::iter::once(Circle::new((middle, line), scale.px(4), color.filled())))?;
            }
            let thin = color.stroke_width(scale.px(1));
            chart.draw_series(row.dots.iter().map(|dot| Circle::new((*dot, line), scale.px(3), thin)))?;
        }
        Ok(())
    }
}
