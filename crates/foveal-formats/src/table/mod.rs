//! Tables of comma-separated values (RFC 4180), read row by row.

mod columns;
pub(crate) mod csv_file;
pub(crate) mod open_images;
mod quotes;

use std::fs::File;
use std::path::{Path, PathBuf};

use csv::{Reader, ReaderBuilder, StringRecord};
use foveal_base::text::{TextReader, open_data};

use crate::FormatError;
use quotes::Quotes;

/// A table that is read row by row, in UTF-8 or UTF-16. Empty lines are skipped.
pub(crate) struct Table {
    path: PathBuf,
    reader: Reader<Quotes<TextReader<File>>>,
    record: StringRecord,
}

impl Table {
    /// Opens a table.
    ///
    /// # Errors
    /// [`FormatError::Io`] if the path is not a regular file or cannot be read.
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
        let text = open_data(path).and_then(TextReader::new).map_err(|source| FormatError::io(path, source))?;
        let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(Quotes::new(text));
        Ok(Self { path: path.to_owned(), reader, record: StringRecord::new() })
    }

    /// The next row and its line, from 1; `None` at the end.
    ///
    /// # Errors
    /// [`FormatError::Convert`] with the line if the text is not UTF-8, or if a quote is not closed.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, &StringRecord)>, FormatError> {
        let more = self.reader.read_record(&mut self.record).map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            let reason = match error.kind() {
                csv::ErrorKind::Utf8 { .. } => "expected text in UTF-8 or UTF-16; save the file in UTF-8".to_owned(),
                _ => error.to_string(),
            };
            FormatError::convert(&self.path, format!("line {line}: {reason}"))
        })?;
        if !more {
            if let Some(line) = self.reader.get_ref().unclosed() {
                let reason =
                    format!("line {line}: a field begins with a quote that is never closed; expected a second \"");
                return Err(FormatError::convert(&self.path, reason));
            }
            return Ok(None);
        }
        let line = self.record.position().map_or(1, csv::Position::line);
        Ok(Some((line, &self.record)))
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
