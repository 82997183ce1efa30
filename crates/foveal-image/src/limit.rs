//! The limit on the memory that an image may need, which is checked before any pixel is decoded.

use std::path::Path;

use crate::{Decoded, FileSize, ImageError, RgbImage, decode};

/// Default limit in bytes of a decoded image (`data.max_image_bytes`): 512 MiB, which is 178 megapixels.
pub const MAX_IMAGE_BYTES: u64 = 512 * 1024 * 1024;

/// Reads image files whose pixels need at most a number of bytes.
///
/// The size follows from the header of a file and is checked before its pixels are decoded, because a file of some
/// kilobytes can announce an image of gigabytes. It is the largest buffer that decoding needs: the RGB pixels of 3
/// bytes each, or the decoder's own pixels or coefficients if they are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimit {
    /// Largest number of bytes that an image may need.
    pub max_bytes: u64,
}

impl Default for ImageLimit {
    fn default() -> Self {
        Self { max_bytes: MAX_IMAGE_BYTES }
    }
}

impl ImageLimit {
    /// Reads and decodes an image file to 8-bit RGB, with its EXIF orientation applied.
    ///
    /// # Errors
    /// [`ImageError`] naming `path` if it is not a regular file, cannot be read, is not an image of a known format, is
    /// too large, damaged or truncated.
    pub fn load_rgb(self, path: &Path) -> Result<RgbImage, ImageError> {
        Ok(self.load(path)?.oriented())
    }

    /// Reads and decodes an image file to 8-bit RGB, with the pixels as stored: the EXIF orientation is ignored. This
    /// is for data sets whose boxes refer to the stored pixels.
    ///
    /// # Errors
    /// [`ImageError`] naming `path` if it is not a regular file, cannot be read, is not an image of a known format, is
    /// too large, damaged or truncated.
    pub fn load_stored(self, path: &Path) -> Result<RgbImage, ImageError> {
        Ok(self.load(path)?.stored)
    }

    /// Reads the size of an image file before and after its EXIF orientation is applied, without decoding the pixels.
    /// The structure of the file is walked to check that it is complete, of which as little as possible is read.
    ///
    /// # Errors
    /// [`ImageError`] naming `path` if it is not a regular file, cannot be read, is not an image of a known format, is
    /// too large, has a damaged header or structure, or is truncated. Damage of the pixels is not noticed.
    pub fn file_size(self, path: &Path) -> Result<FileSize, ImageError> {
        decode::file_size(path, self)
    }

    /// Decodes an image in memory (the bytes of an image file) to 8-bit RGB and reads its EXIF orientation without
    /// applying it; [`Decoded::oriented`] does that. A damaged EXIF block is ignored. `path` is only used in error
    /// messages.
    ///
    /// # Errors
    /// [`ImageError`] naming `path` if the bytes are not an image of a known format, too large, damaged or truncated.
    pub fn decode(self, bytes: &[u8], path: &Path) -> Result<Decoded, ImageError> {
        decode::decode(bytes, path, self)
    }

    fn load(self, path: &Path) -> Result<Decoded, ImageError> {
        self.decode(&decode::read(path, self)?, path)
    }

    /// Refuses an image of `width` by `height` pixels that needs `bytes` bytes if that is above the limit.
    pub(crate) fn check(self, path: &Path, [width, height]: [u32; 2], bytes: u64) -> Result<(), ImageError> {
        if bytes <= self.max_bytes {
            return Ok(());
        }
        Err(ImageError::TooLarge { path: path.to_owned(), width, height, bytes, limit: self.max_bytes })
    }
}
