//! The bytes of a JSON file as plain text: opened as a regular file, unpacked with gzip up to a limit, and in UTF-8.

use std::{
    fs::File,
    io::{self, BufReader, Chain, Cursor, Read},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;
use foveal_base::{
    names,
    text::{TextReader, open_data},
};

use crate::CocoError;

/// The first bytes of a gzip stream (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Content of a gzipped file in bytes that is accepted whatever its ratio to the file is.
const MAX_UNPACKED: u64 = 256 << 20;
/// Largest ratio of a larger content to the file. Annotations are packed to a fifth or a tenth; a file that
/// is made to fill the memory reaches a thousandth.
const MAX_RATIO: u64 = 100;

/// Opens the JSON text of a file, gzipped or not, in UTF-8 or UTF-16.
///
/// # Errors
/// [`CocoError::Read`] if the path is not a regular file, cannot be read, or is text in another encoding. If the file
/// does not exist, the message names a path that may have been meant.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, CocoError> {
    let read = || -> io::Result<Box<dyn Read>> {
        let file: File = open_data(path).map_err(|error| with_hint(error, path))?;
        let length = file.metadata()?.len();
        plain(file, length)
    };
    read().map_err(|source| CocoError::Read { path: path.to_owned(), source })
}

/// The JSON text in `bytes`, gzipped or not, in UTF-8 or UTF-16. `path` is only used in error messages.
///
/// # Errors
/// [`CocoError::Read`] if the text is in another encoding.
pub(crate) fn from_bytes<'a>(bytes: &'a [u8], path: &Path) -> Result<Box<dyn Read + 'a>, CocoError> {
    plain(bytes, bytes.len() as u64).map_err(|source| CocoError::Read { path: path.to_owned(), source })
}

fn with_hint(error: io::Error, path: &Path) -> io::Error {
    match names::hint(path) {
        Some(hint) if error.kind() == io::ErrorKind::NotFound => {
            io::Error::new(error.kind(), format!("{error}; {hint}"))
        }
        _ => error,
    }
}

fn plain<'a>(mut source: impl Read + 'a, length: u64) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::new();
    (&mut source).take(GZIP_MAGIC.len() as u64).read_to_end(&mut head)?;
    let packed = head == GZIP_MAGIC;
    let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(head).chain(source);
    if packed {
        let left = MAX_UNPACKED.max(MAX_RATIO.saturating_mul(length));
        let unpacked = MultiGzDecoder::new(BufReader::new(whole));
        return Ok(Box::new(TextReader::new(Limited { source: unpacked, left, length })?));
    }
    Ok(Box::new(TextReader::new(whole)?))
}

/// The content of a gzipped file, which ends with an error if it is too large.
struct Limited<R> {
    source: R,
    /// Number of bytes that may still be read.
    left: u64,
    /// Size of the gzipped file in bytes.
    length: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(out)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let message = format!(
                "the gzipped file has {} bytes and unpacks to more than 256 MiB and more than {MAX_RATIO} times its \
                 size; if it is sound, unpack it and use the unpacked file",
                self.length
            );
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        Ok(count)
    }
}
