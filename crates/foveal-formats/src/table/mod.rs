//! Tables of comma-separated values, read row by row.

mod columns;
pub(crate) mod csv_file;
pub(crate) mod open_images;
pub(crate) mod row;

use std::fs::File;
use std::path::{Path, PathBuf};

use foveal_base::text::{TextReader, open_data};

use crate::FormatError;
use row::{Row, RowError, Rows};

/// A table that is read row by row, in UTF-8 or UTF-16. Empty lines are skipped.
struct Table {
    path: PathBuf,
    rows: Rows<TextReader<File>>,
}

impl Table {
    /// Opens a table.
    ///
    /// # Errors
    /// [`FormatError::Io`] if the path is not a regular file or cannot be read.
    fn open(path: &Path) -> Result<Self, FormatError> {
        let text = open_data(path).and_then(TextReader::new).map_err(|source| FormatError::io(path, source))?;
        Ok(Self { path: path.to_owned(), rows: Rows::new(text) })
    }

    /// The next row and its line, from 1; `None` at the end.
    ///
    /// # Errors
    /// [`FormatError::Io`] if the file cannot be read, [`FormatError::Convert`] with the line if the text is not UTF-8,
    /// or if a quote is not closed.
    fn next(&mut self) -> Result<Option<(u64, Row)>, FormatError> {
        self.rows.next().map_err(|error| {
            let (line, reason) = match error {
                RowError::Read(source) => return FormatError::io(&self.path, source),
                RowError::NoText(line) => (line, "expected text in UTF-8 or UTF-16; save the file in UTF-8"),
                RowError::Unclosed(line) => (line, "a field begins with a quote that is never closed; expected two"),
            };
            FormatError::convert(&self.path, format!("line {line}: {reason}"))
        })
    }
}

/// A number of a field.
fn number(field: &str, column: &str) -> Result<f64, String> {
    let parsed = field.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    parsed.ok_or_else(|| format!("`{column}` is {field:?}, expected a number"))
}

/// Whether a field says yes.
fn is_set(field: &str) -> bool {
    let field = field.trim();
    field == "1" || field.eq_ignore_ascii_case("true") || field.eq_ignore_ascii_case("yes")
}
