//! The rows of a table of comma-separated values.
//!
//! The crate `csv` is not used: it enables a feature of `serde_core` that the rest of the workspace does without, and
//! cargo would build Burn a second time.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::Index;

/// The fields of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    text: String,
    /// The ends of the fields in the text.
    ends: Vec<usize>,
}

impl Row {
    /// Number of fields.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.text[start..end])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl Index<usize> for Row {
    type Output = str;

    fn index(&self, index: usize) -> &str {
        self.get(index).expect("the number of fields was checked")
    }
}

/// The error of a row that cannot be read.
#[derive(Debug)]
pub(super) enum RowError {
    /// The text cannot be read.
    Read(io::Error),
    /// The text of the row that begins in this line is not UTF-8.
    NoText(u64),
    /// A field that begins with a quote in this line is never closed.
    Unclosed(u64),
}

/// Reads a table row by row. Fields are separated by commas; a field that begins with a quote ends at the next single
/// quote, and two quotes in it are one (RFC 4180). Other quotes are characters of the field. Empty lines are skipped.
pub(super) struct Rows<R> {
    source: BufReader<R>,
    /// The line that is read, from 1.
    line: u64,
}

/// Where a reader is in a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the begin of a field.
    Begin,
    /// In a field without quotes, or behind its closing quote.
    Plain,
    /// In a quoted field that began in this line.
    Quoted(u64),
    /// Behind a quote in a quoted field that began in this line.
    Ending(u64),
}

impl<R: Read> Rows<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source: BufReader::new(source), line: 1 }
    }

    /// The next row and the line of its begin, from 1; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Row)>, RowError> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let mut state = State::Begin;
        let mut begin = self.line;
        loop {
            let Some(byte) = self.byte().map_err(RowError::Read)? else {
                match state {
                    State::Quoted(line) => return Err(RowError::Unclosed(line)),
                    State::Begin if ends.is_empty() => return Ok(None),
                    _ => break,
                }
            };
            match (state, byte) {
                (State::Begin, b'"') => state = State::Quoted(self.line),
                (State::Quoted(line), b'"') => state = State::Ending(line),
                (State::Ending(line), b'"') => {
                    bytes.push(byte);
                    state = State::Quoted(line);
                }
                (State::Quoted(_), _) => bytes.push(byte),
                (_, b',') => {
                    ends.push(bytes.len());
                    state = State::Begin;
                }
                (_, b'\n' | b'\r') => {
                    if state != State::Begin || !ends.is_empty() {
                        self.line += u64::from(byte == b'\n');
                        break;
                    }
                    // An empty line, or the second half of a line end.
                    begin = self.line + u64::from(byte == b'\n');
                }
                _ => {
                    bytes.push(byte);
                    state = State::Plain;
                }
            }
            self.line += u64::from(byte == b'\n');
        }
        ends.push(bytes.len());
        let text = String::from_utf8(bytes).map_err(|_| RowError::NoText(begin))?;
        Ok(Some((begin, Row { text, ends })))
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.source.fill_buf()?.first().copied();
        self.source.consume(usize::from(byte.is_some()));
        Ok(byte)
    }
}

/// Writes a row, with quotes around the fields that need them.
pub(crate) fn line<S: AsRef<str>>(fields: &[S]) -> String {
    let quoted = |field: &S| {
        let field = field.as_ref();
        if field.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.to_owned()
        }
    };
    let mut line = fields.iter().map(quoted).collect::<Vec<_>>().join(",");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(text: &[u8]) -> Result<Vec<(u64, Vec<String>)>, RowError> {
        let mut rows = Rows::new(text);
        let mut all = Vec::new();
        while let Some((line, row)) = rows.next()? {
            all.push((line, row.iter().map(str::to_owned).collect()));
        }
        Ok(all)
    }

    #[test]
    fn fields_and_lines() {
        for (text, expected) in [
            ("a,b\r\n\r\n c ,\n", vec![(1, vec!["a", "b"]), (3, vec![" c ", ""])]),
            ("a,\"b\"\"c\",d", vec![(1, vec!["a", "b\"c", "d"])]),
            ("a,5\" nail,b\n", vec![(1, vec!["a", "5\" nail", "b"])]),
            ("\n\"a\n\nb\",\"\"\nc\n", vec![(2, vec!["a\n\nb", ""]), (5, vec!["c"])]),
            ("\"a\"b,c\n", vec![(1, vec!["ab", "c"])]),
            (",\n", vec![(1, vec!["", ""])]),
            ("", vec![]),
        ] {
            let expected: Vec<(u64, Vec<String>)> = expected
                .into_iter()
                .map(|(line, fields)| (line, fields.into_iter().map(str::to_owned).collect()))
                .collect();
            assert_eq!(rows(text.as_bytes()).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn quotes_that_stay_open_and_bytes_that_are_no_text() {
        for (text, expected) in [("a\nb,\"c\nd\n", 2), ("\"a\"\"", 1)] {
            assert!(matches!(rows(text.as_bytes()), Err(RowError::Unclosed(line)) if line == expected), "{text:?}");
        }
        assert!(matches!(rows(b"a\n\nb\xe9\n"), Err(RowError::NoText(3))));
    }

    proptest! {
        #[test]
        fn rows_come_back(fields in proptest::collection::vec("[a, \"\n\r;]{0,6}", 2..5)) {
            let found = rows(line(&fields).as_bytes()).unwrap();
            prop_assert_eq!(found, vec![(1, fields)]);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = rows(&bytes);
        }
    }
}
