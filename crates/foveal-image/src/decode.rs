//! Decoding of image files to 8-bit RGB.
//!
//! Grey and palette images are expanded, 16-bit values are scaled to 8 bits with rounding, CMYK is converted, and an
//! alpha channel is dropped without compositing, as PIL's `convert("RGB")` does. The orientation in the EXIF data is
//! applied unless the caller asks for the stored pixels.
//!
//! An image is decoded only if its file is complete, its checksums match and the entropy-coded data of a JPEG hold
//! every block, because decoders fill what is missing with grey.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::format::{foreign, open, read_start};
use crate::limit::MAX_IMAGE_BYTES;
use crate::structure::{self, Depth, Layout};
use crate::verified;
use crate::{Format, ImageError, ImageLimit};

/// Number of bytes that the metadata of an image (colour profile, EXIF data, text) may take in a decoder.
const METADATA_BYTES: u64 = 64 * 1024 * 1024;

/// Number of bytes that are read at once to walk the segments of a JPEG file, most of which are in its header.
const SEGMENTS: usize = 8 * 1024;
/// Number of bytes that are read at once to walk the chunks of other files, between which their data are passed over.
const CHUNKS: usize = 512;

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
    /// Bytes of the largest buffer that decoding needs, at least 3 for each pixel.
    pub bytes: u64,
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

/// Reads and decodes an image file to 8-bit RGB, with its EXIF orientation applied. Images that need more than
/// [`MAX_IMAGE_BYTES`] are refused; [`ImageLimit::load_rgb`] has another limit.
///
/// # Errors
/// [`ImageError`] naming `path` if it is not a regular file, cannot be read, is not an image of a known format, is too
/// large, damaged or truncated.
pub fn load_rgb(path: &Path) -> Result<RgbImage, ImageError> {
    ImageLimit::default().load_rgb(path)
}

/// Reads the size `(width, height)` in pixels of an image file after its EXIF orientation is applied, without decoding
/// the pixels, whatever its size. [`ImageLimit::file_size`] also returns the stored size.
///
/// # Errors
/// [`ImageError`] naming `path` if it is not a regular file, cannot be read, is not an image of a known format, has a
/// damaged header or structure, or is truncated. Damage of the pixels is not noticed.
pub fn oriented_size(path: &Path) -> Result<(u32, u32), ImageError> {
    let size = ImageLimit { max_bytes: u64::MAX }.file_size(path)?;
    Ok((size.width, size.height))
}

pub(crate) fn decode(bytes: &[u8], path: &Path, limit: ImageLimit) -> Result<Decoded, ImageError> {
    let format = format_of(bytes, path)?;
    let mut reader = Cursor::new(bytes);
    let layout = structure::walk(&mut reader, format, bytes.len() as u64, Depth::Checksums);
    let layout = layout.map_err(|flaw| flaw.of(path))?;
    let mut decoder = decoder(Cursor::new(&bytes[..layout.walked_bytes as usize]), format, path)?;
    limit.check(path, decoder.dimensions().into(), needed_bytes(&decoder, format, layout))?;
    if format == Format::Jpeg {
        let header = Cursor::new(&bytes[..layout.header_bytes as usize]);
        let size = header_size(header, format, layout, path, limit)?;
        if (size.stored_width, size.stored_height) != decoder.dimensions() {
            let reason = "the file has two headers of different sizes".to_owned();
            return Err(ImageError::Decode { path: path.to_owned(), reason });
        }
        verified::once(bytes, structure::scan::verify).map_err(|flaw| flaw.of(path))?;
    }
    // An image with a damaged EXIF block is still usable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // A decoder that panics on damaged data ends neither a run nor the processing of other files.
    let decoded = catch_unwind(AssertUnwindSafe(|| DynamicImage::from_decoder(decoder)));
    let reason = "the decoder panicked, so the file is damaged or of a rare kind".to_owned();
    let decoded = decoded.map_err(|_| ImageError::Decode { path: path.to_owned(), reason })?;
    let image = decoded.map_err(|e| decode_error(path, e))?;
    Ok(Decoded { stored: image.into_rgb8(), orientation })
}

pub(crate) fn file_size(path: &Path, limit: ImageLimit) -> Result<FileSize, ImageError> {
    let error = |source| ImageError::Read { path: path.to_owned(), source };
    let (mut file, length) = open(path)?;
    let format = format_of(&read_start(&mut file, path)?, path)?;
    let mut reader = BufReader::with_capacity(if format == Format::Jpeg { SEGMENTS } else { CHUNKS }, file);
    let layout = structure::walk(&mut reader, format, length, Depth::Lengths).map_err(|flaw| flaw.of(path))?;
    reader.rewind().map_err(error)?;
    if format != Format::Jpeg {
        return header_size(reader.take(layout.walked_bytes), format, layout, path, limit);
    }
    // The decoder for JPEG reads its whole input, so it gets only the header.
    if layout.header_bytes > METADATA_BYTES {
        let reason = format!("its header has {} bytes, expected at most {METADATA_BYTES}", layout.header_bytes);
        return Err(ImageError::Decode { path: path.to_owned(), reason });
    }
    let mut header = Vec::new();
    reader.take(layout.header_bytes).read_to_end(&mut header).map_err(error)?;
    header_size(Cursor::new(header.as_slice()), format, layout, path, limit)
}

fn header_size(
    reader: impl BufRead + Seek,
    format: Format,
    layout: Layout,
    path: &Path,
    limit: ImageLimit,
) -> Result<FileSize, ImageError> {
    let mut decoder = decoder(reader, format, path)?;
    let (stored_width, stored_height) = decoder.dimensions();
    let bytes = needed_bytes(&decoder, format, layout);
    limit.check(path, [stored_width, stored_height], bytes)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let swapped = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let (width, height) = if swapped { (stored_height, stored_width) } else { (stored_width, stored_height) };
    Ok(FileSize { width, height, stored_width, stored_height, bytes })
}

/// The bytes of the largest buffer that decoding needs.
fn needed_bytes(decoder: &impl ImageDecoder, format: Format, layout: Layout) -> u64 {
    const RGB_BYTES: u64 = 3;
    // The decoder for WebP has a buffer of four channels for images of three.
    const WEBP_BYTES: u64 = 4;
    let (width, height) = decoder.dimensions();
    let each = if format == Format::WebP { WEBP_BYTES } else { RGB_BYTES };
    let pixels = u64::from(width) * u64::from(height);
    pixels.saturating_mul(each).max(decoder.total_bytes()).max(layout.working_bytes)
}

fn decoder<'a>(
    reader: impl BufRead + Seek + 'a,
    format: Format,
    path: &Path,
) -> Result<impl ImageDecoder + 'a, ImageError> {
    let mut reader = ImageReader::with_format(
        reader,
        match format {
            Format::Jpeg => ImageFormat::Jpeg,
            Format::Png => ImageFormat::Png,
            Format::WebP => ImageFormat::WebP,
            Format::Bmp => ImageFormat::Bmp,
        },
    );
    let mut limits = Limits::default();
    limits.max_alloc = Some(METADATA_BYTES);
    reader.limits(limits);
    reader.into_decoder().map_err(|e| decode_error(path, e))
}

fn format_of(start: &[u8], path: &Path) -> Result<Format, ImageError> {
    Format::of(start).ok_or_else(|| ImageError::Unsupported { path: path.to_owned(), found: foreign(start) })
}

/// Reads a whole image file. A compressed image that is longer than its limit in memory is refused.
pub(crate) fn read(path: &Path, limit: ImageLimit) -> Result<Vec<u8>, ImageError> {
    let (file, length) = open(path)?;
    // Videos may follow the image in the same file, so that a low limit alone says little.
    let limit = limit.max_bytes.max(MAX_IMAGE_BYTES);
    if length > limit {
        return Err(ImageError::LongFile { path: path.to_owned(), bytes: length, limit });
    }
    read_all(file, length).map_err(|source| ImageError::Read { path: path.to_owned(), source })
}

fn read_all(mut file: File, length: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.by_ref().take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn decode_error(path: &Path, error: image::ImageError) -> ImageError {
    ImageError::Decode { path: path.to_owned(), reason: error.to_string() }
}
