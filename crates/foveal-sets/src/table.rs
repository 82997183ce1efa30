//! Tables of text.

use foveal_base::printable;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Largest width of a name in terminal columns; longer names are shortened.
const MAX_NAME: usize = 40;

/// A table whose first column is aligned to the left and whose other columns are aligned to the right.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { rows: vec![headings.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row. Cells that are missing at its end are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table with one line for each row. Names pass through [`printable`].
    pub(crate) fn text(&self) -> String {
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| shortened(&printable(cell))).collect()).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.width()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = " ".repeat(width - cell.width());
                line += &if column == 0 { format!(" {cell}{gap}") } else { format!("  {gap}{cell}") };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

fn shortened(cell: &str) -> String {
    if cell.width() <= MAX_NAME {
        return cell.to_owned();
    }
    let mut width = 1;
    let fits = |c: &char| {
        width += c.width().unwrap_or(0);
        width <= MAX_NAME
    };
    let start: String = cell.chars().take_while(fits).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_for_wide_and_long_names() {
        let mut table = Table::new(["class", "objects"]);
        table.row(["青い猫", "7"]);
        table.row([&*"x".repeat(60), "12345678"]);
        table.row(["a\n"]);
        let text = table.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[..3].iter().all(|line| line.width() == 1 + 40 + 2 + 8), "{text}");
        assert!(lines[2].contains('…') && lines[3] == " a\\n", "{text}");
    }
}
