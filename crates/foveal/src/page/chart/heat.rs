//! Matrices as fields of colour.

use foveal_base::first_chars;

use super::frame::{rect, words};
use super::{figure, number, svg};
use crate::page::html::{Html, el};
use crate::page::table::numbers;

const SIDE: f64 = 480.0;
/// Width of the names of the rows, and height of the names of the columns.
const NAMES: f64 = 110.0;
const HEADS: f64 = 84.0;
/// Width that the turned name of the last column takes beyond its column.
const TAIL: f64 = 48.0;
/// Largest number of rows and columns of a matrix whose cells have their numbers in them.
const NUMBERED: usize = 12;
/// Largest number of rows and columns with names.
const NAMED: usize = 30;
/// Characters of a name that are shown.
const NAME_CHARS: usize = 14;

/// A matrix of values of 0 or more, the larger the darker.
#[derive(Clone, Debug)]
pub(crate) struct HeatMap {
    pub title: String,
    /// What the rows and the columns are.
    pub axes: [String; 2],
    /// Names of the rows and of the columns; without names there are no labels.
    pub names: Option<[Vec<String>; 2]>,
    /// Values: `[rows, columns]`.
    pub values: Vec<Vec<f64>>,
    /// Values that stand for the darkest colour of each row; without them, the largest value of the matrix does.
    pub row_scales: Option<Vec<f64>>,
}

impl HeatMap {
    /// The map as markup; empty without values.
    pub(crate) fn html(&self) -> Html {
        let (rows, columns) = (self.values.len(), self.values.first().map_or(0, Vec::len));
        let largest = self.values.iter().flatten().copied().fold(0.0, f64::max);
        if rows == 0 || columns == 0 {
            return Html::new();
        }
        let named = self.names.as_ref().filter(|_| rows.max(columns) <= NAMED);
        let (left, top, tail) = if named.is_some() { (NAMES, HEADS, TAIL) } else { (0.0, 0.0, 0.0) };
        let size = ((SIDE - left - tail) / columns as f64).min(60.0);
        let [row_axis, column_axis] = &self.axes;
        let description = format!("{}: rows are {row_axis}, columns are {column_axis}.", self.title);
        let mut image = svg(SIDE, top + size * rows as f64, &description);
        for (r, row) in self.values.iter().enumerate() {
            let scale = self.row_scales.as_ref().and_then(|scales| scales.get(r)).copied().unwrap_or(largest);
            for (c, value) in row.iter().enumerate() {
                let share = if scale > 0.0 { (value / scale).clamp(0.0, 1.0) } else { 0.0 };
                let (x, y) = (left + c as f64 * size, top + r as f64 * size);
                let mut cell = rect(x, y, size, size).class("heat").attr("fill-opacity", format!("{share:.2}"));
                if named.is_some() {
                    cell = cell.child(el("title").text(self.said(r, c, *value)));
                }
                image = image.child(cell);
                if named.is_some() && rows.max(columns) <= NUMBERED && *value > 0.0 {
                    let dark = if share > 0.55 { "on-heat" } else { "" };
                    let number = words(x + size / 2.0, y + size / 2.0 + 4.5, &number(*value)).class(dark);
                    image = image.child(number.attr("text-anchor", "middle"));
                }
            }
        }
        if let Some([row_names, column_names]) = named {
            for (r, name) in row_names.iter().enumerate() {
                let y = top + (r as f64 + 0.5) * size + 4.5;
                let label = words(left - 6.0, y, &first_chars(name, NAME_CHARS)).attr("text-anchor", "end");
                image = image.child(label.child(el("title").text(name)));
            }
            for (c, name) in column_names.iter().enumerate() {
                let (x, y) = (left + (c as f64 + 0.5) * size + 4.0, top - 6.0);
                let label = words(x, y, &first_chars(name, NAME_CHARS));
                let label = label.attr("transform", format!("rotate(-50 {x:.1} {y:.1})"));
                image = image.child(label.child(el("title").text(name)));
            }
        }
        let note = el("p").class("note").text(format!("Rows: {row_axis}. Columns: {column_axis}."));
        figure(&self.title, &[], image, Html::from(note).with(self.table()))
    }

    fn said(&self, row: usize, column: usize, value: f64) -> String {
        let name = |side: usize, index: usize| {
            self.names.as_ref().and_then(|names| names[side].get(index)).cloned().unwrap_or_default()
        };
        format!("{} {}, {} {}: {}", self.axes[0], name(0, row), self.axes[1], name(1, column), number(value))
    }

    /// The cells with a value above 0, if they have names.
    fn table(&self) -> Html {
        let Some([row_names, column_names]) = &self.names else { return Html::new() };
        /// Largest number of cells in the table.
        const CELLS: usize = 200;
        let cells = row_names.iter().zip(&self.values).flat_map(|(row, values)| {
            let cell = move |(column, value): (&String, &f64)| (row.clone(), column.clone(), *value);
            column_names.iter().zip(values).filter(|(_, value)| **value > 0.0).map(cell)
        });
        let mut cells: Vec<(String, String, f64)> = cells.collect();
        cells.sort_by(|a, b| b.2.total_cmp(&a.2));
        cells.truncate(CELLS);
        let columns = vec![self.axes[0].clone(), self.axes[1].clone(), "value".to_owned()];
        numbers(columns, cells.into_iter().map(|(row, column, value)| vec![row, column, number(value)]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(names: Option<[Vec<String>; 2]>, row_scales: Option<Vec<f64>>) -> String {
        let values = vec![vec![1.0, 3.0], vec![0.0, 4.0]];
        let axes = ["object".to_owned(), "detection".to_owned()];
        HeatMap { title: "Confusion".to_owned(), axes, names, values, row_scales }.html().as_str().to_owned()
    }

    #[test]
    fn the_largest_value_is_darkest() {
        let html = map(None, None);
        let opacities: Vec<&str> =
            html.split("fill-opacity=\"").skip(1).filter_map(|part| part.split('"').next()).collect();
        assert_eq!(opacities, ["0.25", "0.75", "0.00", "1.00"]);
        let html = map(None, Some(vec![3.0, 8.0]));
        assert!(html.contains("fill-opacity=\"0.33\"") && html.contains("fill-opacity=\"0.50\""), "{html}");
    }

    #[test]
    fn names_are_escaped_and_in_the_table() {
        let names = ["<b>", "c"].map(str::to_owned).to_vec();
        let html = map(Some([names.clone(), names]), None);
        assert!(html.contains("object &lt;b&gt;, detection c: 3") && !html.contains("<b>"), "{html}");
        assert_eq!(html.matches("<tr>").count(), 4);
    }
}
