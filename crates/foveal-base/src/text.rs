//! Text of other systems: UTF-8 and UTF-16 with or without a byte order mark, read as UTF-8.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// U+FEFF in UTF-8, which some Windows programs write at the start of a file.
const MARK_UTF8: [u8; 3] = [0xef, 0xbb, 0xbf];
/// U+FEFF in UTF-16, least significant byte first, as Windows PowerShell writes it.
const MARK_UTF16_LE: [u8; 2] = [0xff, 0xfe];
/// U+FEFF in UTF-16, most significant byte first.
const MARK_UTF16_BE: [u8; 2] = [0xfe, 0xff];
/// Number of bytes that decide on the encoding.
const HEAD: usize = 4;
/// Number of bytes of UTF-16 that are decoded at a time, an even number.
const CHUNK: usize = 64 * 1024;
/// Largest text file that [`read_text`] and [`read_data_text`] accept, in bytes. Configurations, lists and annotations
/// of one image are far smaller.
const MAX_TEXT: u64 = 256 << 20;

/// Opens a file of a data set, which must be a regular file. A link to a regular file is followed.
///
/// # Errors
/// The error of the operating system if the file cannot be opened, or an error that names the kind of the path if it is
/// a folder, a pipe, a socket or a device. Such a path is not opened: opening a pipe could wait forever.
pub fn open_data(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_file() {
        return File::open(path);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("expected a regular file, found {}", what(kind))))
}

/// The kind of a path that is not a regular file.
fn what(kind: fs::FileType) -> &'static str {
    if kind.is_dir() {
        return "a folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe (FIFO)";
        }
        if kind.is_socket() {
            return "a socket";
        }
    }
    "a device"
}

/// Reads a whole file, which must be a regular file.
///
/// # Errors
/// The errors of [`open_data`], or the error of the operating system if the file cannot be read.
pub fn read_data(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_data(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a text file of a data set, which must be a regular file, in UTF-8 or UTF-16.
///
/// # Errors
/// The errors of [`open_data`], or an error that says what was found if the file is in another encoding or has more
/// than 256 MiB.
pub fn read_data_text(path: &Path) -> io::Result<String> {
    to_string(open_data(path)?)
}

/// Reads a text file in UTF-8 or UTF-16 that a user named, such as a configuration. It may be a pipe.
///
/// # Errors
/// The error of the operating system if the file cannot be opened or read, or an error that says what was found if the
/// file is in another encoding or has more than 256 MiB.
pub fn read_text(path: &Path) -> io::Result<String> {
    to_string(File::open(path)?)
}

fn to_string(file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    TextReader::new(file.take(MAX_TEXT + 1))?.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(invalid(format!("expected a text file of at most {} MiB, found a larger one", MAX_TEXT >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        let found = error.as_bytes()[valid.len()];
        invalid(format!(
            "line {line}: expected text in UTF-8 or UTF-16, found the byte 0x{found:02x}; save the file in UTF-8"
        ))
    })
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Reads text as UTF-8 without a byte order mark. UTF-16 is converted; UTF-8 is passed on as it is, without a check.
///
/// UTF-16 is recognised by its byte order mark, or by a zero byte among the first two: the files of this project begin
/// with an ASCII character, and text in UTF-8 has no zero byte.
#[derive(Debug)]
pub struct TextReader<R> {
    source: R,
    /// Bytes of UTF-8 that are ready.
    ready: Vec<u8>,
    /// Number of bytes of `ready` that were read.
    taken: usize,
    utf16: Option<Utf16>,
}

impl<R: Read> TextReader<R> {
    /// Reads the first bytes of `source` to find the encoding.
    ///
    /// # Errors
    /// The error of `source`, or an error if the text is in UTF-32.
    pub fn new(mut source: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(HEAD);
        (&mut source).take(HEAD as u64).read_to_end(&mut head)?;
        if head == [0xff, 0xfe, 0, 0] || head == [0, 0, 0xfe, 0xff] {
            return Err(invalid("expected text in UTF-8 or UTF-16, found UTF-32".to_owned()));
        }
        let (big_endian, mark) = match head.as_slice() {
            [a, b, ..] if [*a, *b] == MARK_UTF16_LE => (Some(false), 2),
            [a, b, ..] if [*a, *b] == MARK_UTF16_BE => (Some(true), 2),
            [a, 0, ..] if *a != 0 => (Some(false), 0),
            [0, b, ..] if *b != 0 => (Some(true), 0),
            head if head.starts_with(&MARK_UTF8) => (None, 3),
            _ => (None, 0),
        };
        let rest = head.split_off(mark);
        Ok(match big_endian {
            None => Self { source, ready: rest, taken: 0, utf16: None },
            Some(big_endian) => {
                Self { source, ready: Vec::new(), taken: 0, utf16: Some(Utf16 { big_endian, bytes: rest, high: None }) }
            }
        })
    }
}

impl<R: Read> Read for TextReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.taken < self.ready.len() {
                let count = out.len().min(self.ready.len() - self.taken);
                out[..count].copy_from_slice(&self.ready[self.taken..self.taken + count]);
                self.taken += count;
                return Ok(count);
            }
            let Some(utf16) = &mut self.utf16 else { return self.source.read(out) };
            self.ready.clear();
            self.taken = 0;
            if !utf16.decode(&mut self.source, &mut self.ready)? {
                return Ok(0);
            }
        }
    }
}

/// The state of a conversion from UTF-16.
#[derive(Debug)]
struct Utf16 {
    big_endian: bool,
    /// Bytes that were read but not converted.
    bytes: Vec<u8>,
    /// The first half of a surrogate pair whose second half has not been read.
    high: Option<u16>,
}

impl Utf16 {
    /// Converts the next bytes of `source`. Returns false at the end of the text.
    fn decode(&mut self, source: &mut impl Read, out: &mut Vec<u8>) -> io::Result<bool> {
        let missing = (CHUNK - self.bytes.len()) as u64;
        let read = source.take(missing).read_to_end(&mut self.bytes)? as u64;
        if self.bytes.is_empty() && self.high.is_none() {
            return Ok(false);
        }
        let at_end = read < missing;
        if at_end && self.bytes.len() % 2 == 1 {
            return Err(invalid("expected text in UTF-16, found an odd number of bytes".to_owned()));
        }
        let even = self.bytes.len() / 2 * 2;
        let units = self.bytes[..even].chunks_exact(2).map(|pair| {
            let pair = [pair[0], pair[1]];
            if self.big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
        });
        let mut units: Vec<u16> = self.high.take().into_iter().chain(units).collect();
        self.bytes.drain(..even);
        let ends_open = units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit));
        if ends_open && !at_end {
            self.high = units.pop();
        }
        let mut utf8 = [0; 4];
        for letter in char::decode_utf16(units) {
            let letter = letter.map_err(|error| {
                let unit = error.unpaired_surrogate();
                invalid(format!("expected text in UTF-16, found half a surrogate pair (0x{unit:04x})"))
            })?;
            out.extend_from_slice(letter.encode_utf8(&mut utf8).as_bytes());
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    }

    fn decoded(bytes: &[u8]) -> io::Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        fs::write(&path, bytes).unwrap();
        let text = read_text(&path);
        assert_eq!(text.as_ref().ok(), read_data_text(&path).as_ref().ok());
        text
    }

    #[test]
    fn every_encoding_gives_the_same_text() {
        // The text is longer than a chunk, and a pair of surrogates lies across the border of two chunks.
        let text = format!("{{{}\u{1f41f}\r\n猫}}", "ä".repeat(CHUNK / 2 - 2));
        assert_eq!(decoded(text.as_bytes()).unwrap(), text);
        assert_eq!(decoded(format!("\u{feff}{text}").as_bytes()).unwrap(), text);
        for big_endian in [false, true] {
            assert_eq!(decoded(&utf16(&format!("\u{feff}{text}"), big_endian)).unwrap(), text);
            assert_eq!(decoded(&utf16(&text, big_endian)).unwrap(), text);
            assert_eq!(decoded(&utf16("\u{feff}", big_endian)).unwrap(), "");
        }
        for short in ["", "a", "ab", "äb"] {
            assert_eq!(decoded(short.as_bytes()).unwrap(), short);
        }
    }

    #[test]
    fn other_encodings_are_named() {
        let text = |bytes: &[u8]| decoded(bytes).unwrap_err().to_string();
        assert!(text(b"one\ncaf\xe9\n").contains("line 2: expected text in UTF-8 or UTF-16, found the byte 0xe9"));
        assert!(text(&[0xff, 0xfe, 0, 0, b'a', 0, 0, 0]).contains("UTF-32"));
        assert!(text(&[0xff, 0xfe, b'a']).contains("odd number of bytes"));
        assert!(text(&[0xff, 0xfe, 0x3d, 0xd8, b'a', 0]).contains("0xd83d"));
        assert!(text(&[0xff, 0xfe, 0x3d, 0xd8]).contains("0xd83d"));
    }

    #[cfg(unix)]
    #[test]
    fn only_regular_files_are_data() {
        let dir = tempfile::tempdir().unwrap();
        let text = |path: &Path| open_data(path).unwrap_err().to_string();
        assert_eq!(text(dir.path()), "expected a regular file, found a folder");
        assert_eq!(text(Path::new("/dev/zero")), "expected a regular file, found a device");
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(text(&socket), "expected a regular file, found a socket");
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(text(&pipe), "expected a regular file, found a pipe (FIFO)");
        assert_eq!(read_data(&pipe).unwrap_err().to_string(), text(&pipe));
        assert_eq!(open_data(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
