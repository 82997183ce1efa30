//! What can go wrong between a path and its pixels.

use std::path::PathBuf;

/// A file that could not be turned into an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file could not be read.
    #[error("cannot read image {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The bytes are no image that the decoders know, or a damaged one.
    #[error("cannot decode image {}: {reason}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        reason: String,
    },
    /// The file ends before its image does.
    #[error("image {} is truncated: {expected} is missing", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What a complete file would hold.
        expected: &'static str,
    },
}
