//! A value with its interval a row.

use plotters::prelude::*;

use super::{Area, Drawn, GRID, INK, Scale, color};

/// One row: `low, middle, high`, single values as dots, or a note where there is no value.
pub struct Interval {
    pub name: String,
    pub range: Option<[f64; 3]>,
    pub dots: Vec<f64>,
    pub note: String,
}

/// Rows over a common axis, the first on top; each in the colour of the curve of its index.
pub struct Intervals {
    pub title: String,
    pub range: [f64; 2],
    pub rows: Vec<Interval>,
}

impl Intervals {
    pub(super) fn draw<DB: DrawingBackend>(&self, area: &Area<DB>, scale: Scale) -> Drawn<DB> {
        let [x1, x2] = self.range;
        let count = self.rows.len().max(1) as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, scale.text(14.0))
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
            // Each row is one high: its text above, its interval below.
            let (text, line) = (count - index as f64 - 0.12, count - index as f64 - 0.68);
            let color = color(index);
            let title = if row.note.is_empty() { row.name.clone() } else { format!("{}: {}", row.name, row.note) };
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
