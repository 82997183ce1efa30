//! The errors of conversions.

use std::path::PathBuf;

use foveal_base::WriteError;
use foveal_coco::CocoError;

/// What a conversion does about files and objects that cannot be converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The conversion ends with an error that lists them. This is the default.
    #[default]
    Fail,
    /// They are left out, and a note counts them.
    Skip,
}

/// The error of a data set that cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A file or folder cannot be read or created.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// The reason that the operating system gives.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The COCO annotation file cannot be read.
    #[error(transparent)]
    Coco(#[from] CocoError),
    /// The content of a file or folder cannot be converted.
    #[error("{}: {reason}", path.display())]
    Convert {
        /// Path of the file or folder.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
}

impl FormatError {
    /// The error of a file or folder whose content cannot be converted.
    pub(crate) fn convert(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Convert { path: path.into(), reason: reason.into() }
    }

    /// The error of a file or folder that cannot be read or created.
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }
}
