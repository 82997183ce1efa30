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
    /// The bytes are not an image of a known format, or the image is damaged.
    #[error("cannot decode image {}: {reason}", path.display())]
    Decode {
        /// Path of the image file that could not be decoded.
        path: PathBuf,
        /// Message of the decoder that describes the defect.
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
