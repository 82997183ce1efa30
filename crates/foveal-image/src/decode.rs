//! Decoding: every kind of file becomes 8-bit RGB.
//!
//! Grey and palette images are expanded, 16 bit is scaled to 8 bit with rounding, CMYK is converted, and an alpha
//! channel is dropped without compositing, as PIL's `convert("RGB")` does. The orientation in the EXIF data is applied.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};

use crate::ImageError;

/// So much of a file is read first when only its size is wanted; the rest only if the header does not fit.
const HEADER_BYTES: u64 = 64 * 1024;
/// So much of a file's end is searched for the mark of a complete image.
const TAIL_BYTES: u64 = 4 * 1024;

/// An image's size by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSize {
    /// Width in pixels after the EXIF orientation.
    pub width: u32,
    /// Height in pixels after the EXIF orientation.
    pub height: u32,
    /// Width in pixels as stored.
    pub stored_width: u32,
    /// Height in pixels as stored.
    pub stored_height: u32,
}

/// A decoded image and what the EXIF data says about it.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The pixels as stored in the file.
    pub stored: RgbImage,
    orientation: Orientation,
}

impl Decoded {
    /// The pixels after the EXIF orientation.
    pub fn oriented(self) -> RgbImage {
        if self.orientation == Orientation::NoTransforms {
            return self.stored;
        }
        let mut image = DynamicImage::ImageRgb8(self.stored);
        image.apply_orientation(self.orientation);
        image.into_rgb8()
    }
}

/// Reads and decodes the image at `path` to RGB, with its EXIF orientation applied.
///
/// # Errors
/// The file cannot be read, is no image, is damaged or truncated; each names `path`.
pub fn load_rgb(path: &Path) -> Result<RgbImage, ImageError> {
    decode_rgb(&read(path)?, path)
}

/// Like [`load_rgb`], but with the pixels as stored, whatever the EXIF orientation: for data sets whose boxes were drawn on those.
///
/// # Errors
/// As [`load_rgb`].
pub fn load_stored(path: &Path) -> Result<RgbImage, ImageError> {
    Ok(decode(&read(path)?, path)?.stored)
}

/// Decodes an image in memory to RGB, with its EXIF orientation applied; `path` is for the messages.
///
/// # Errors
/// As [`load_rgb`].
pub fn decode_rgb(bytes: &[u8], path: &Path) -> Result<RgbImage, ImageError> {
    Ok(decode(bytes, path)?.oriented())
}

/// Decodes an image in memory and leaves the choice of orientation open; `path` is for the messages.
///
/// # Errors
/// As [`load_rgb`].
pub fn decode(bytes: &[u8], path: &Path) -> Result<Decoded, ImageError> {
    let mut decoder = decoder(bytes, path)?;
    check_complete(bytes, path)?;
    // A damaged EXIF block is no reason to refuse the image.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|e| decode_error(path, e))?;
    Ok(Decoded { stored: image.into_rgb8(), orientation })
}

/// An image's size after its EXIF orientation, `(width, height)`, from the header alone.
///
/// # Errors
/// As [`load_rgb`], as far as header and end of the file show it.
pub fn oriented_size(path: &Path) -> Result<(u32, u32), ImageError> {
    let size = file_size(path)?;
    Ok((size.width, size.height))
}

/// An image's size before and after its EXIF orientation. Reads the header, and of the end of the file as much as
/// tells whether it is complete.
///
/// # Errors
/// As [`load_rgb`], as far as header and end of the file show it.
pub fn file_size(path: &Path) -> Result<FileSize, ImageError> {
    let error = |source| ImageError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(error)?;
    let length = file.metadata().map_err(error)?.len();
    let mut bytes = Vec::new();
    (&mut file).take(HEADER_BYTES).read_to_end(&mut bytes).map_err(error)?;
    if length <= HEADER_BYTES {
        check_complete(&bytes, path)?;
        return header_size(&bytes, path);
    }
    let size = header_size(&bytes, path);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(length - TAIL_BYTES)).map_err(error)?;
    file.read_to_end(&mut tail).map_err(error)?;
    match size {
        Ok(size) if ends_whole(&bytes, &tail, length) => Ok(size),
        _ => {
            let bytes = read(path)?;
            check_complete(&bytes, path)?;
            header_size(&bytes, path)
        }
    }
}

fn header_size(bytes: &[u8], path: &Path) -> Result<FileSize, ImageError> {
    let mut decoder = decoder(bytes, path)?;
    let (stored_width, stored_height) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let swapped = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let (width, height) = if swapped { (stored_height, stored_width) } else { (stored_width, stored_height) };
    Ok(FileSize { width, height, stored_width, stored_height })
}

fn decoder<'a>(bytes: &'a [u8], path: &Path) -> Result<impl ImageDecoder + 'a, ImageError> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let reader = reader.map_err(|source| ImageError::Read { path: path.to_owned(), source })?;
    reader.into_decoder().map_err(|e| decode_error(path, e))
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    std::fs::read(path).map_err(|source| ImageError::Read { path: path.to_owned(), source })
}

fn decode_error(path: &Path, error: image::ImageError) -> ImageError {
    ImageError::Decode { path: path.to_owned(), reason: error.to_string() }
}

const JPEG_START: &[u8] = &[0xFF, 0xD8, 0xFF];
const PNG_START: &[u8] = &[0x89, b'P', b'N', b'G'];

/// Whether the end alone proves the file complete (formats whose decoders notice by themselves count as such).
fn ends_whole(head: &[u8], tail: &[u8], length: u64) -> bool {
    if head.starts_with(JPEG_START) {
        jpeg_ends(tail)
    } else if head.starts_with(PNG_START) {
        last(tail, b"IEND").is_some()
    } else if head.starts_with(b"RIFF") && head.len() >= 8 {
        // The RIFF size counts what follows it.
        u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]])) + 8 <= length
    } else {
        true
    }
}

/// The JPEG decoder paints the missing part of a truncated image grey: refuse it here instead.
fn check_complete(bytes: &[u8], path: &Path) -> Result<(), ImageError> {
    if ends_whole(bytes, bytes, bytes.len() as u64) {
        return Ok(());
    }
    let expected = if bytes.starts_with(JPEG_START) {
        "the end-of-image marker"
    } else if bytes.starts_with(PNG_START) {
        "the IEND chunk"
    } else {
        "the end of the RIFF container"
    };
    Err(ImageError::Truncated { path: path.to_owned(), expected })
}

/// An end-of-image marker that belongs to the last scan, not to a thumbnail before it.
fn jpeg_ends(bytes: &[u8]) -> bool {
    match (last(bytes, &[0xFF, 0xD9]), last(bytes, &[0xFF, 0xDA])) {
        (Some(end), Some(scan)) => end > scan,
        (end, _) => end.is_some(),
    }
}

fn last(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).rposition(|window| window == pattern)
}
