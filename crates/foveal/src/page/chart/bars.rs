//! Horizontal bars with names.

use foveal_base::first_chars;

use super::axis::Axis;
use super::frame::{rect, words};
use super::{COLORS, figure, number, svg};
use crate::page::html::{Html, el, text};
use crate::page::table::numbers;

const WIDTH: f64 = 480.0;
/// Width of the names and of the numbers beside the bars.
const NAMES: f64 = 150.0;
const NUMBERS: f64 = 64.0;
/// Height of a bar, and the gap between rows.
const BAR: f64 = 15.0;
const GAP: f64 = 7.0;
/// Largest number of rows that are drawn.
const MOST_ROWS: usize = 40;
/// Characters of a name that are shown.
const NAME_CHARS: usize = 18;

/// A chart of horizontal bars.
#[derive(Clone, Debug)]
pub(crate) struct BarChart {
    pub title: String,
    /// What the bars measure, with its unit.
    pub measure: String,
    /// Names of the bars of each row.
    pub series: Vec<String>,
    pub rows: Vec<Bars>,
}

/// The bars of one row.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    pub name: String,
    /// Values of 0 or more, one for each series: `[series]`.
    pub values: Vec<f64>,
}

impl BarChart {
    /// The chart as markup; empty without rows.
    pub(crate) fn html(&self) -> Html {
        if self.rows.is_empty() {
            return Html::new();
        }
        let drawn = &self.rows[..self.rows.len().min(MOST_ROWS)];
        let values = drawn.iter().flat_map(|row| row.values.iter().copied());
        let scale = Axis::over("", [0.0, 1e-9]).scale(values.chain([0.0]));
        let row_height = GAP + BAR * self.series.len().max(1) as f64;
        let description = format!("{}: {} of {} rows.", self.title, self.measure, self.rows.len());
        let mut image = svg(WIDTH, GAP + row_height * drawn.len() as f64, &description);
        for (row, Bars { name, values }) in drawn.iter().enumerate() {
            let top = GAP + row_height * row as f64;
            let middle = top + (row_height - GAP) / 2.0 + 4.5;
            let label = words(NAMES - 8.0, middle, &first_chars(name, NAME_CHARS)).attr("text-anchor", "end");
            image = image.child(label.child(el("title").text(name)));
            for (index, value) in values.iter().enumerate() {
                let y = top + BAR * index as f64;
                let length = scale.at(*value).clamp(0.0, 1.0) * (WIDTH - NAMES - NUMBERS);
                let class = format!("bar s{}", index % COLORS);
                let shown = if value.is_finite() { number(*value) } else { "–".to_owned() };
                image = image.child(rect(NAMES, y, length, BAR - 2.0).class(class));
                image = image.child(words(NAMES + length + 5.0, y + BAR - 3.5, &shown));
            }
        }
        let left_out = self.rows.len() - drawn.len();
        let more = (left_out > 0)
            .then(|| el("p").class("note").child(text(format!("{left_out} more rows are in the table."))));
        let columns = std::iter::once("name".to_owned()).chain(self.series.iter().cloned()).collect();
        let row = |Bars { name, values }: &Bars| {
            std::iter::once(name.clone()).chain(values.iter().map(|value| number(*value))).collect()
        };
        let table = numbers(columns, self.rows.iter().map(row).collect());
        let title = format!("{} ({})", self.title, self.measure);
        figure(&title, &self.series, image, more.into_iter().map(Html::from).collect::<Html>().with(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(rows: usize) -> String {
        let rows = (0..rows).map(|n| Bars { name: format!("<i>{n}"), values: vec![n as f64] }).collect();
        let (title, measure) = ("Classes".to_owned(), "objects".to_owned());
        BarChart { title, measure, series: vec!["train".to_owned()], rows }.html().as_str().to_owned()
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let html = chart(3);
        // The longest bar has 480 - 150 - 64 units.
        for width in ["width=\"0\"", "width=\"133\"", "width=\"266\""] {
            assert!(html.contains(width), "{width}: {html}");
        }
        assert!(html.contains("&lt;i&gt;2") && !html.contains("<i>"));
    }

    #[test]
    fn rows_that_are_not_drawn_are_in_the_table() {
        let html = chart(45);
        assert_eq!(html.matches("<rect").count(), 40);
        assert!(html.contains("5 more rows") && html.matches("<tr>").count() == 46, "{html}");
        assert!(chart(0).is_empty());
    }
}
