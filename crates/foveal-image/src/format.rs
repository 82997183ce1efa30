//! The formats of image files, recognised by their first bytes.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::ImageError;

/// Number of bytes at the start of a file from which its format is recognised.
pub(crate) const START_BYTES: usize = 32;

/// A format of image files that foveal decodes. It is recognised by the content of a file, never by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG, sequential or progressive.
    Jpeg,
    /// PNG; of an animated PNG the default image is read.
    Png,
    /// WebP, lossy or lossless.
    WebP,
    /// Windows bitmap.
    Bmp,
}

/// Sizes in bytes of the second header of a Windows bitmap, in all its versions.
const BMP_HEADERS: [u32; 8] = [12, 16, 40, 52, 56, 64, 108, 124];

impl Format {
    /// Returns the format of a file that begins with the bytes `start`, or `None` if foveal does not decode it. 18
    /// bytes are enough.
    pub fn of(start: &[u8]) -> Option<Self> {
        if start.starts_with(&[0xFF, 0xD8, 0xFF]) {
            Some(Self::Jpeg)
        } else if start.starts_with(b"\x89PNG\r\n\x1A\n") {
            Some(Self::Png)
        } else if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP") {
            Some(Self::WebP)
        } else if start.starts_with(b"BM") && start.get(14..18).is_some_and(is_bmp_header) {
            // Two letters alone would make images of many text files.
            Some(Self::Bmp)
        } else {
            None
        }
    }

    /// Reads the first bytes of a file and returns its format, or `None` if foveal does not decode the file.
    ///
    /// # Errors
    /// [`ImageError::NotAFile`] if `path` is not a regular file; it is then not opened. [`ImageError::Read`] if the
    /// file cannot be read.
    pub fn of_file(path: &Path) -> Result<Option<Self>, ImageError> {
        let (mut file, _) = open(path)?;
        let start = read_start(&mut file, path)?;
        Ok(Self::of(&start))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
        })
    }
}

fn is_bmp_header(length: &[u8]) -> bool {
    length.try_into().is_ok_and(|bytes| BMP_HEADERS.contains(&u32::from_le_bytes(bytes)))
}

/// The name of the format of a file that begins with `start` and that foveal does not decode, with its article, for
/// error messages.
pub(crate) fn foreign(start: &[u8]) -> &'static str {
    let brand = start.get(8..12).filter(|_| start.get(4..8) == Some(b"ftyp"));
    match start {
        [] => "an empty file",
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => "a TIFF file",
        [b'G', b'I', b'F', b'8', ..] => "a GIF file",
        [b'%', b'P', b'D', b'F', ..] => "a PDF file",
        [b'8', b'B', b'P', b'S', ..] => "a Photoshop file",
        [0xFF, 0x0A, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => "a JPEG XL file",
        [0, 0, 0, 12, b'j', b'P', ..] | [0xFF, 0x4F, 0xFF, 0x51, ..] => "a JPEG 2000 file",
        _ => match brand {
            Some(b"avif" | b"avis") => "an AVIF file",
            Some(b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1") => "a HEIC file",
            Some(_) => "a video",
            None => "a file of another kind",
        },
    }
}

/// Opens an image file for reading and returns its length in bytes. Pipes, devices and folders are refused without
/// opening them, because opening a pipe waits for its other end.
pub(crate) fn open(path: &Path) -> Result<(File, u64), ImageError> {
    let error = |source| ImageError::Read { path: path.to_owned(), source };
    let about = std::fs::metadata(path).map_err(error)?;
    if !about.is_file() {
        return Err(ImageError::NotAFile { path: path.to_owned(), found: kind_of(&about) });
    }
    Ok((File::open(path).map_err(error)?, about.len()))
}

/// What a path names that is no regular file, with its article.
fn kind_of(about: &std::fs::Metadata) -> &'static str {
    if about.is_dir() {
        return "a folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = about.file_type();
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
    }
    "a device"
}

/// The first [`START_BYTES`] of a file, fewer if it is shorter.
pub(crate) fn read_start(file: &mut impl Read, path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut start = Vec::with_capacity(START_BYTES);
    file.take(START_BYTES as u64)
        .read_to_end(&mut start)
        .map_err(|source| ImageError::Read { path: path.to_owned(), source })?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_have_names_and_text_is_no_bitmap() {
        for (start, name) in [
            (&b"II*\0\x08\0\0\0"[..], "TIFF"),
            (b"MM\0*\0\0\0\x08", "TIFF"),
            (b"GIF89a", "GIF"),
            (b"\0\0\0\x1Cftypavif", "AVIF"),
            (b"\0\0\0\x18ftypheic", "HEIC"),
            (b"\0\0\0\x18ftypmp42", "video"),
            (b"%PDF-1.7", "PDF"),
            (b"", "empty"),
            (b"BMW 320, BMW 520 and BMW 720", "another kind"),
        ] {
            assert_eq!(Format::of(start), None, "{name}");
            assert!(foreign(start).contains(name), "{name}: {}", foreign(start));
        }
    }
}
