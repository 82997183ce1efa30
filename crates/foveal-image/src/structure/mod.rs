//! Whether an image file is complete, found by walking its structure: segments, chunks and headers with their lengths.
//! No bytes are searched for, because any bytes can occur inside compressed data or after the end of an image.

mod bmp;
mod jpeg;
mod png;
mod riff;

pub(crate) mod scan;

use std::io::{self, BufRead, Seek};
use std::path::Path;

use crate::{Format, ImageError};

/// A defect of the structure of an image file.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// The file ends before the named part.
    Truncated(&'static str),
    /// A part has a content that it cannot have; the text says which.
    Malformed(String),
    /// The file cannot be read.
    Io(io::Error),
}

impl Flaw {
    /// The error of the image file at `path`.
    pub(crate) fn of(self, path: &Path) -> ImageError {
        let path = path.to_owned();
        match self {
            Self::Truncated(expected) => ImageError::Truncated { path, expected },
            Self::Malformed(reason) => ImageError::Decode { path, reason },
            Self::Io(source) => ImageError::Read { path, source },
        }
    }
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How much of a file is read to check its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// As little as possible.
    Lengths,
    /// Also the data of the chunks of a PNG file, whose checksums are compared.
    Checksums,
}

/// What the structure of a file tells about reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Number of bytes at the start of the file that contain everything before the pixels; 0 if it is not known.
    pub header_bytes: u64,
    /// Number of bytes at the start of the file that a decoder may read: the whole file, or less where the rest of it
    /// has not been walked.
    pub walked_bytes: u64,
    /// Bytes that a decoder needs besides the pixels, as far as they follow from the header.
    pub working_bytes: u64,
}

/// Walks the structure of an image file from its start. `length` is the length of the file in bytes.
pub(crate) fn walk(
    reader: &mut (impl BufRead + Seek),
    format: Format,
    length: u64,
    depth: Depth,
) -> Result<Layout, Flaw> {
    reader.rewind()?;
    let whole = Layout { walked_bytes: length, ..Layout::default() };
    match format {
        Format::Jpeg => jpeg::walk(reader, length).map(|layout| Layout { walked_bytes: length, ..layout }),
        Format::Png => png::walk(reader, length, depth).map(|()| whole),
        Format::WebP => riff::walk(reader, length).map(|walked_bytes| Layout { walked_bytes, ..whole }),
        Format::Bmp => bmp::walk(reader, length).map(|()| whole),
    }
}

/// Reads `N` bytes; a file that ends before them lacks the part `missing`.
fn bytes<const N: usize>(reader: &mut impl BufRead, missing: &'static str) -> Result<[u8; N], Flaw> {
    let mut bytes = [0; N];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Flaw::Truncated(missing)),
        Err(error) => Err(Flaw::Io(error)),
    }
}
