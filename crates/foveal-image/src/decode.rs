//! Decoding of image files to 8-bit RGB.
//!
//! Grey and palette images are expanded, 16-bit values are scaled to 8 bits with rounding, CMYK is converted, and an
//! alpha channel is dropped without compositing, as PIL's `convert("RGB")` does. The orientation in the EXIF data is
//! applied unless the caller asks for the stored pixels.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};

use crate::ImageError;

/// Number of bytes that are read first if only the size of an image is needed. The whole file is read only if they do
/// not contain the header.
const HEADER_BYTES: u64 = 64 * 1024;
/// Number of bytes at the end of a file that are searched for the end marker of a complete image.
const TAIL_BYTES: u64 = 4 * 1024;

/// Size of an image file according to its header, before and after its EXIF orientation is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSize {
    /// Width in pixels after the EXIF orientation is applied.
    pub width: u32,
    /// Height in pixels after the EXIF orientation is applied.
    pub height: u32,
    /// Width in pixels as stored in the file.
    pub stored_width: u32,
    /// Height in pixels as stored in the file.
    pub stored_height: u32,
}

/// A decoded image, with the EXIF orientation not applied yet.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The RGB pixels as stored in the file.
    pub stored: RgbImage,
    orientation: Orientation,
}

impl Decoded {
    /// Returns the pixels with the EXIF orientation applied.
    pub fn oriented(self) -> RgbImage {
        if self.orientation == Orientation::NoTransforms {
            return self.stored;
        }
        let mut image = DynamicImage::ImageRgb8(self.stored);
        image.apply_orientation(self.orientation);
        image.into_rgb8()
    }
}

/// Reads and decodes an image file to 8-bit RGB, with its EXIF orientation applied.
///
/// # Errors
/// [`ImageError`] naming `path` if the file cannot be read, is not an image of a known format, is damaged, or is
/// truncated.
pub fn load_rgb(path: &Path) -> Result<RgbImage, ImageError> {
    decode_rgb(&read(path)?, path)
}

/// Reads and decodes an image file to 8-bit RGB, with the pixels as stored: the EXIF orientation is ignored. This is
/// for data sets whose boxes refer to the stored pixels.
///
/// # Errors
/// [`ImageError`] naming `path` if the file cannot be read, is not an image of a known format, is damaged, or is
/// truncated.
pub fn load_stored(path: &Path) -> Result<RgbImage, ImageError> {
    Ok(decode(&read(path)?, path)?.stored)
}

/// Decodes an image in memory (the bytes of an image file) to 8-bit RGB, with its EXIF orientation applied. `path` is
/// only used in error messages.
///
/// # Errors
/// [`ImageError`] naming `path` if the bytes are not an image of a known format, are damaged, or are truncated.
pub fn decode_rgb(bytes: &[u8], path: &Path) -> Result<RgbImage, ImageError> {
    Ok(decode(bytes, path)?.oriented())
}

/// Decodes an image in memory (the bytes of an image file) to 8-bit RGB and reads its EXIF orientation without applying
/// it; [`Decoded::oriented`] does that. A damaged EXIF block is ignored. `path` is only used in error messages.
///
/// # Errors
/// [`ImageError`] naming `path` if the bytes are not an image of a known format, are damaged, or are truncated.
pub fn decode(bytes: &[u8], path: &Path) -> Result<Decoded, ImageError> {
    let mut decoder = decoder(bytes, path)?;
    check_complete(bytes, path)?;
    // An image with a damaged EXIF block is still usable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|e| decode_error(path, e))?;
    Ok(Decoded { stored: image.into_rgb8(), orientation })
}

/// Reads the size `(width, height)` in pixels of an image file after its EXIF orientation is applied, without decoding
/// the pixels.
///
/// # Errors
/// [`ImageError`] naming `path` if the file cannot be read, is not an image of a known format, has a damaged header, or
/// is truncated. Damage of the pixels is not noticed.
pub fn oriented_size(path: &Path) -> Result<(u32, u32), ImageError> {
    let size = file_size(path)?;
    Ok((size.width, size.height))
}

/// Reads the size of an image file before and after its EXIF orientation is applied, without decoding the pixels. Only
/// the header and the end of the file are read, the latter to check that the file is complete.
///
/// # Errors
/// [`ImageError`] naming `path` if the file cannot be read, is not an image of a known format, has a damaged header, or
/// is truncated. Damage of the pixels is not noticed.
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

/// Whether the file is complete according to its end. Formats whose decoders report truncation themselves count as
/// complete.
fn ends_whole(head: &[u8], tail: &[u8], length: u64) -> bool {
    if head.starts_with(JPEG_START) {
        jpeg_ends(tail)
    } else if head.starts_with(PNG_START) {
        last(tail, b"IEND").is_some()
    } else if head.starts_with(b"RIFF") && head.len() >= 8 {
        // The RIFF size counts the bytes after the first 8.
        u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]])) + 8 <= length
    } else {
        true
    }
}

/// Refuses truncated images. The JPEG decoder would only fill the missing part with grey.
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

/// Whether the last end-of-image marker comes after the last start of a scan, so that it does not belong to a
/// thumbnail.
fn jpeg_ends(bytes: &[u8]) -> bool {
    match (last(bytes, &[0xFF, 0xD9]), last(bytes, &[0xFF, 0xDA])) {
        (Some(end), Some(scan)) => end > scan,
        (end, _) => end.is_some(),
    }
}

fn last(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).rposition(|window| window == pattern)
}
