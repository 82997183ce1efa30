//! Files and objects that cannot be converted: an error that lists them, or a note that counts them.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{FormatError, OnError};

/// Number of defects that an error lists.
const LISTED: usize = 20;

/// Where an object is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A line, from 1.
    Line(u64),
    /// An entry of a list of a JSON file, from 0.
    Entry(&'static str, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Entry(list, index) => write!(f, "{list}[{index}]"),
        }
    }
}

/// A file or an object that cannot be converted.
#[derive(Debug)]
pub(crate) struct Defect {
    pub path: PathBuf,
    /// Where the object is in the file.
    pub place: Option<Place>,
    /// What was expected and what was found.
    pub reason: String,
}

impl Defect {
    /// The defect of a whole file.
    pub(crate) fn of(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), place: None, reason: reason.into() }
    }

    /// The defect of a line of a file.
    pub(crate) fn at(path: &Path, line: u64, reason: impl Into<String>) -> Self {
        Self::within(path, Place::Line(line), reason)
    }

    /// The defect of an object of a file.
    pub(crate) fn within(path: &Path, place: Place, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), place: Some(place), reason: reason.into() }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(place) = self.place {
            write!(f, ", {place}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// The defects of a conversion. Only the first ones are kept; a large file of bad lines would else need more memory
/// than the file itself.
#[derive(Debug, Default)]
pub(crate) struct Defects {
    first: Vec<Defect>,
    count: usize,
}

impl Defects {
    pub(crate) fn add(&mut self, defect: Defect) {
        self.count += 1;
        if self.first.len() < LISTED {
            self.first.push(defect);
        }
    }

    /// Ends a conversion of `from`: the number of defects and the first one if they are left out, `None` if there are
    /// none.
    ///
    /// # Errors
    /// [`FormatError::Convert`] with the first 20 defects if there are any and `on_error` is `Fail`.
    pub(crate) fn finish(self, from: &Path, on_error: OnError) -> Result<Option<(usize, Defect)>, FormatError> {
        let count = self.count;
        if count == 0 || on_error == OnError::Skip {
            return Ok(self.first.into_iter().next().map(|first| (count, first)));
        }
        let mut lines: Vec<String> = self.first.iter().map(|defect| format!("\n  {defect}")).collect();
        if count > LISTED {
            lines.push(format!("\n  … and {} more", count - LISTED));
        }
        let what = if count == 1 { "file or object" } else { "files or objects" };
        let them = if count == 1 { "it" } else { "them" };
        let reason =
            format!("{count} {what} cannot be converted:{}\npass --on-error skip to leave {them} out", lines.concat());
        Err(FormatError::convert(from, reason))
    }
}
