//! Tables whose rows can be sorted by any column.

use super::chart::number;
use super::html::{Element, Html, el};

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// What the table shows.
    pub caption: String,
    pub columns: Vec<String>,
    /// Rows of cells: `[rows, columns]`. The first cell of a row is its heading.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// A name or a sentence.
    Text(String),
    /// A number with its decimals; `None` and values that are not finite are shown as a dash.
    Number(Option<f64>, usize),
}

impl Cell {
    /// A cell with a text.
    pub(crate) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    /// A cell with an integer.
    pub(crate) fn count(count: usize) -> Self {
        Self::Number(Some(count as f64), 0)
    }

    /// A cell with a COCO metric, for which -1 says that it is undefined.
    pub(crate) fn metric(value: Option<f64>) -> Self {
        Self::Number(value.filter(|value| *value >= 0.0), 3)
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Number(..))
    }

    fn fill(&self, cell: Element) -> Element {
        match self {
            Self::Text(text) => cell.text(text),
            Self::Number(value, decimals) => match value.filter(|value| value.is_finite()) {
                Some(value) => cell.class("n").attr("data-v", value).text(format!("{value:.decimals$}")),
                None => cell.class("n").text("–"),
            },
        }
    }
}

impl Table {
    /// The table as markup, in a frame that scrolls sideways where the window is narrow. The headings are buttons that
    /// sort the rows, if `sortable` is true.
    pub(crate) fn html(&self, sortable: bool) -> Html {
        let numeric = |column: usize| self.rows.iter().any(|row| row.get(column).is_some_and(Cell::is_number));
        let head = self.columns.iter().enumerate().map(|(index, name)| {
            let cell = el("th").attr("scope", "col").maybe("class", numeric(index).then_some("n"));
            match sortable {
                true => cell.child(el("button").attr("type", "button").text(name)),
                false => cell.text(name),
            }
        });
        let row = |cells: &Vec<Cell>| {
            let cells = cells
                .iter()
                .enumerate()
                .map(|(index, cell)| cell.fill(if index == 0 { el("th").attr("scope", "row") } else { el("td") }));
            el("tr").children(cells)
        };
        let table = el("table")
            .maybe("class", sortable.then_some("sortable"))
            .child(el("caption").text(&self.caption))
            .child(el("thead").child(el("tr").children(head)))
            .child(el("tbody").children(self.rows.iter().map(row)));
        let frame = el("div").class("scroll").attr("tabindex", "0").attr("role", "group");
        frame.attr("aria-label", &self.caption).child(table).into()
    }
}

/// A table of names and values.
pub(crate) fn facts(caption: &str, rows: Vec<(String, String)>) -> Html {
    let rows = rows.into_iter().map(|(name, value)| vec![Cell::Text(name), Cell::Text(value)]).collect();
    let columns = ["name", "value"].map(str::to_owned).to_vec();
    Table { caption: caption.to_owned(), columns, rows }.html(false)
}

/// The points of curves as a table that is folded away, for readers who cannot see the chart.
pub(super) fn numbers(columns: Vec<String>, rows: Vec<Vec<String>>) -> Html {
    let head = columns.iter().map(|name| el("th").attr("scope", "col").text(name));
    let body = rows.iter().map(|row| el("tr").children(row.iter().map(|cell| el("td").class("n").text(cell))));
    let table = el("table").child(el("thead").child(el("tr").children(head))).child(el("tbody").children(body));
    let frame = el("div").class("scroll").attr("tabindex", "0").attr("role", "group").attr("aria-label", "Numbers");
    el("details").child(el("summary").text("Numbers")).child(frame.child(table)).into()
}

/// A number of a chart's table.
pub(super) fn shown(value: f64) -> String {
    if value.is_finite() { number(value) } else { "–".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_the_values_that_they_are_sorted_by() {
        let rows =
            vec![vec![Cell::text("<b>"), Cell::metric(Some(0.12345))], vec![Cell::text("c"), Cell::metric(Some(-1.0))]];
        let table = Table { caption: "AP".to_owned(), columns: vec!["class".to_owned(), "AP".to_owned()], rows };
        let html = table.html(true);
        let html = html.as_str();
        assert!(
            html.contains("<th scope=\"row\">&lt;b&gt;</th><td class=\"n\" data-v=\"0.12345\">0.123</td>"),
            "{html}"
        );
        assert!(html.contains("<td class=\"n\">–</td>"), "{html}");
        assert_eq!(html.matches("<button").count(), 2);
        assert!(!table.html(false).as_str().contains("<button"));
    }
}
