//! The errors of conversions.

use std::path::{Path, PathBuf};

use foveal_base::{WriteError, printable};
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
    /// The content of a file or folder cannot be converted, and the reason is a list. The message has a line for each
    /// of its items; other line breaks, such as those in names of files, are shown as escapes.
    #[error("{}", lines(path, reason, listed, advice.as_deref()))]
    Listed {
        /// Path of the file or folder.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
        /// The files and objects that cannot be converted, or what else was found, with what was expected of each.
        listed: Vec<String>,
        /// What can be done about it.
        advice: Option<String>,
    },
}

/// The lines of an error that lists its reasons.
fn lines(path: &Path, reason: &str, listed: &[String], advice: Option<&str>) -> String {
    let mut text = printable(&format!("{}: {reason}", path.display())).into_owned();
    for item in listed {
        text += &format!("\n  {}", printable(item));
    }
    if let Some(advice) = advice {
        text += &format!("\n{}", printable(advice));
    }
    text
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
