//! The errors of reading and decoding an image file.

use std::path::PathBuf;

/// The error of a file that could not be read and decoded as an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The image file could not be opened or read.
    #[error("cannot read image {}: {source}", path.display())]
    Read {
        /// Path of the image file that could not be read.
        path: PathBuf,
        /// Error of the operating system that prevented reading.
        source: std::io::Error,
    },
    /// The path names a folder, a pipe, a socket or a device. It was not opened.
    #[error("cannot read image {}: expected a regular file, found {found}", path.display())]
    NotAFile {
        /// Path that is no regular file.
        path: PathBuf,
        /// What the path names, with its article, such as `a named pipe`.
        found: &'static str,
    },
    /// The file is not an image of a format that foveal decodes.
    #[error("cannot decode image {}: expected a JPEG, PNG, WebP or BMP file, found {found}", path.display())]
    Unsupported {
        /// Path of the file.
        path: PathBuf,
        /// The format of the file with its article, as far as it is known, such as `a TIFF file`.
        found: &'static str,
    },
    /// The header of the image announces more pixels than the limit allows. Nothing was decoded.
    #[error(
        "image {} is too large: its {width}x{height} pixels need {bytes} bytes of memory, but data.max_image_bytes \
         allows {limit}; make the image smaller, or raise data.max_image_bytes",
        path.display()
    )]
    TooLarge {
        /// Path of the image file.
        path: PathBuf,
        /// Width in pixels as stored in the file.
        width: u32,
        /// Height in pixels as stored in the file.
        height: u32,
        /// Bytes of the largest buffer that decoding needs.
        bytes: u64,
        /// Largest number of bytes that is allowed.
        limit: u64,
    },
    /// The file itself is longer than the largest image that is allowed.
    #[error(
        "image {} is too large: the file has {bytes} bytes, expected at most {limit} (data.max_image_bytes, or 512 MiB \
         if that is larger)",
        path.display()
    )]
    LongFile {
        /// Path of the image file.
        path: PathBuf,
        /// Length of the file in bytes.
        bytes: u64,
        /// Largest length in bytes that is read.
        limit: u64,
    },
    /// The image is damaged, or it is of a kind that the decoder does not know.
    #[error("cannot decode image {}: {reason}", path.display())]
    Decode {
        /// Path of the image file that could not be decoded.
        path: PathBuf,
        /// Description of the defect.
        reason: String,
    },
    /// The file ends before the end of the image.
    #[error("image {} is truncated: {expected} is missing", path.display())]
    Truncated {
        /// Path of the truncated image file.
        path: PathBuf,
        /// The part of a complete file that is missing, such as `the end-of-image marker`.
        expected: &'static str,
    },
}
