//! JSON text on its way to the parser: Python's `NaN` becomes `null`, half a surrogate pair becomes U+FFFD, and the
//! place in the text is known.

use std::{
    cell::Cell,
    fmt,
    io::{self, Read},
    path::Path,
    rc::Rc,
};

use foveal_base::excerpt;
use serde::de::DeserializeSeed;

use crate::CocoError;

/// Number of bytes that are read at a time.
const CHUNK: usize = 64 * 1024;
/// The literals that Python's `json` writes for numbers that JSON cannot represent.
const NON_FINITE: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
/// Length of the longest literal of [`NON_FINITE`].
const LONGEST: usize = 9;
/// What a literal of [`NON_FINITE`] is replaced by.
const NULL: &[u8] = b"null";

/// Length of the escapes of a surrogate pair without the first backslash, such as `ud83d\udc1f`.
const PAIR: usize = 11;
/// What follows the `u` of an escape of U+FFFD, the replacement character.
const REPLACED: &[u8] = b"fffd";

/// The place up to which a text has been read. It is shared by the reader and the parser.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Number of line ends so far.
    lines: Cell<u64>,
    /// Number of bytes of the text before the reader's buffer.
    before: Cell<u64>,
    /// Number of bytes of the reader's buffer that the parser has read.
    at: Cell<usize>,
    /// Number of bytes of the text up to the last line end.
    line_start: Cell<u64>,
    /// Difference between the length of the text and of what the parser has read, since the last line end.
    shift: Cell<i64>,
}

impl Progress {
    /// The line, counted from 1.
    pub(crate) fn line(&self) -> u64 {
        self.lines.get() + 1
    }

    /// The column in bytes, counted from 1.
    pub(crate) fn column(&self) -> u64 {
        (self.before.get() + self.at.get() as u64 - self.line_start.get()).max(1)
    }
}

/// The place of a record in a COCO file: its list, its index in the list from 0, and its line from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The list that contains the record.
    pub list: List,
    /// Index of the record in the list of the file, from 0.
    pub index: u32,
    /// Line of the file in which the record begins, from 1.
    pub line: u32,
}

/// A list of a COCO file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// The list `images` of an annotation file.
    Images,
    /// The list `annotations` of an annotation file.
    Annotations,
    /// The list `categories` of an annotation file.
    Categories,
    /// The list of detections that is a results file.
    Detections,
}

impl List {
    /// The key of the list in the file; `detections` for a results file, whose list has no key.
    pub fn key(self) -> &'static str {
        match self {
            List::Images => "images",
            List::Annotations => "annotations",
            List::Categories => "categories",
            List::Detections => "detections",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, {}[{}]", self.line, self.list.key(), self.index)
    }
}

/// Parses a whole text with the seed that `make` returns for the shared [`Progress`]. `path` is only used in error
/// messages.
///
/// # Errors
/// [`CocoError::Json`] with the line and column if the text is not JSON or the seed refuses it; [`CocoError::Read`] if
/// `source` fails.
pub(crate) fn parse<'a, S, T>(
    source: Box<dyn Read + 'a>,
    path: &Path,
    make: impl FnOnce(Rc<Progress>) -> S,
) -> Result<T, CocoError>
where
    S: for<'de> DeserializeSeed<'de, Value = T>,
{
    let progress = Rc::new(Progress::default());
    let reader = JsonReader::new(source, Rc::clone(&progress));
    let mut parser = serde_json::Deserializer::from_reader(reader);
    let result = make(Rc::clone(&progress)).deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
    result.map_err(|error| {
        if error.is_io() {
            return CocoError::Read { path: path.to_owned(), source: error.into() };
        }
        let place = format!(" at line {} column {}", error.line(), error.column());
        let text = error.to_string();
        let message = excerpt(text.strip_suffix(&place).unwrap_or(&text));
        let encoding = if message.contains("invalid unicode code point") {
            "; expected text in UTF-8 or UTF-16, so save the file in UTF-8"
        } else {
            ""
        };
        CocoError::Json {
            path: path.to_owned(),
            line: error.line(),
            column: error.column().saturating_add_signed(progress.shift.get() as isize),
            message: format!("{message}{encoding}"),
        }
    })
}

/// Whether a byte changes the state of a [`JsonReader`] or begins a literal of [`NON_FINITE`].
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let bytes = b"\"\\\n-IN";
    let mut i = 0;
    while i < bytes.len() {
        special[bytes[i] as usize] = true;
        i += 1;
    }
    special
};

/// Passes a text on to the parser byte by byte.
struct JsonReader<R> {
    source: R,
    /// A part of the text, of which `progress.at` bytes were passed on.
    buffer: Vec<u8>,
    /// Rest of a replacement that the parser reads before the buffer.
    replacement: &'static [u8],
    in_string: bool,
    /// Whether the byte before was a backslash in a string.
    escaped: bool,
    /// Whether the next escape is the second half of a surrogate pair.
    in_pair: bool,
    at_end: bool,
    progress: Rc<Progress>,
}

impl<R: Read> JsonReader<R> {
    fn new(source: R, progress: Rc<Progress>) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            replacement: &[],
            in_string: false,
            escaped: false,
            in_pair: false,
            at_end: false,
            progress,
        }
    }

    /// Reads until the buffer has at least `count` bytes that were not passed on, or the text ends.
    fn fill(&mut self, count: usize) -> io::Result<()> {
        while self.buffer.len() - self.progress.at.get() < count && !self.at_end {
            let at = self.progress.at.take();
            self.buffer.drain(..at);
            self.progress.before.set(self.progress.before.get() + at as u64);
            let before = self.buffer.len();
            self.buffer.resize(CHUNK.max(before + count), 0);
            let read = loop {
                match self.source.read(&mut self.buffer[before..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            self.buffer.truncate(before + read);
            self.at_end = read == 0;
        }
        Ok(())
    }

    /// The next byte for the parser, or `None` at the end.
    #[inline]
    fn next(&mut self) -> io::Result<Option<u8>> {
        if let Some((first, rest)) = self.replacement.split_first() {
            self.replacement = rest;
            return Ok(Some(*first));
        }
        if self.progress.at.get() == self.buffer.len() {
            self.fill(1)?;
        }
        let at = self.progress.at.get();
        let Some(&byte) = self.buffer.get(at) else { return Ok(None) };
        if !self.escaped && !SPECIAL[usize::from(byte)] {
            self.progress.at.set(at + 1);
            return Ok(Some(byte));
        }
        self.special(byte)
    }

    /// Passes a byte on that is special or escaped.
    #[inline(never)]
    fn special(&mut self, byte: u8) -> io::Result<Option<u8>> {
        if self.in_string {
            match byte {
                _ if self.escaped => {
                    self.escaped = false;
                    if byte == b'u' && self.lone_surrogate()? {
                        self.pass_over(1 + REPLACED.len());
                        self.replacement = REPLACED;
                        return Ok(Some(byte));
                    }
                }
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => self.in_string = true,
                b'-' | b'I' | b'N' => {
                    if let Some(literal) = self.literal()? {
                        self.pass_over(literal);
                        let shift = literal as i64 - NULL.len() as i64;
                        self.progress.shift.set(self.progress.shift.get() + shift);
                        self.replacement = &NULL[1..];
                        return Ok(Some(NULL[0]));
                    }
                }
                _ => {}
            }
        }
        self.pass_over(1);
        if byte == b'\n' {
            let progress = &self.progress;
            progress.lines.set(progress.lines.get() + 1);
            progress.line_start.set(progress.before.get() + progress.at.get() as u64);
            progress.shift.set(0);
        }
        Ok(Some(byte))
    }

    /// Counts bytes of the buffer as passed on.
    fn pass_over(&mut self, count: usize) {
        self.progress.at.set(self.progress.at.get() + count);
    }

    /// Whether the escape that comes next (`u` and four digits) is half a surrogate pair without the other half. Python
    /// writes such an escape for each byte of a file name that is not UTF-8, and the parser would refuse the whole
    /// text.
    fn lone_surrogate(&mut self) -> io::Result<bool> {
        if std::mem::take(&mut self.in_pair) {
            return Ok(false);
        }
        self.fill(PAIR)?;
        let rest = &self.buffer[self.progress.at.get()..];
        let unit = |at: usize| -> Option<u16> {
            let digits = rest.get(at..at + REPLACED.len()).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
            u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        match unit(1) {
            Some(0xd800..=0xdbff) => {
                let low = unit(7).filter(|unit| (0xdc00..=0xdfff).contains(unit));
                self.in_pair = low.is_some() && rest[5..].starts_with(b"\\u");
                Ok(!self.in_pair)
            }
            Some(0xdc00..=0xdfff) => Ok(true),
            _ => Ok(false),
        }
    }

    /// The length of the literal of [`NON_FINITE`] that comes next, if one does.
    fn literal(&mut self) -> io::Result<Option<usize>> {
        self.fill(LONGEST)?;
        let rest = &self.buffer[self.progress.at.get()..];
        Ok(NON_FINITE.iter().find(|literal| rest.starts_with(literal)).map(|literal| literal.len()))
    }
}

impl<R: Read> Read for JsonReader<R> {
    /// Reads at most one byte, so that [`Progress`] is never ahead of the parser. The parser asks for single bytes.
    #[inline]
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(slot) = out.first_mut() else { return Ok(0) };
        Ok(match self.next()? {
            Some(byte) => {
                *slot = byte;
                1
            }
            None => 0,
        })
    }
}
