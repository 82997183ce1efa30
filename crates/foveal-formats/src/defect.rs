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
    /// Number of images that are left out with objects.
    images: usize,
    /// Number of objects whose images are left out.
    objects: usize,
}

/// The defects of a conversion that leaves them out.
#[derive(Debug)]
pub(crate) struct LeftOut {
    count: usize,
    first: Defect,
    images: usize,
    objects: usize,
}

impl LeftOut {
    /// What was left out, as notes.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let Self { count, first, images, objects } = self;
        let mut sentences =
            vec![format!("files and objects that cannot be converted, left out: {count} (first: {first})")];
        if *images > 0 {
            let plural = |count: usize| if count == 1 { "" } else { "s" };
            sentences.push(format!(
                "{images} image{} left out with {objects} object{}",
                plural(*images),
                plural(*objects)
            ));
        }
        sentences
    }
}

impl Defects {
    pub(crate) fn add(&mut self, defect: Defect) {
        self.count += 1;
        if self.first.len() < LISTED {
            self.first.push(defect);
        }
    }

    /// Adds the defect of an image that is left out with its objects.
    pub(crate) fn add_image(&mut self, defect: Defect, objects: usize) {
        self.add(defect);
        self.lost([objects]);
    }

    /// Counts images that are left out by their numbers of objects.
    pub(crate) fn lost(&mut self, objects: impl IntoIterator<Item = usize>) {
        for objects in objects {
            self.images += usize::from(objects > 0);
            self.objects += objects;
        }
    }

    /// Ends a conversion of `from`: the defects if they are left out, `None` if there are none.
    ///
    /// # Errors
    /// [`FormatError::Listed`] with the first 20 defects if there are any and `on_error` is `Fail`.
    pub(crate) fn finish(self, from: &Path, on_error: OnError) -> Result<Option<LeftOut>, FormatError> {
        let Self { first, count, images, objects } = self;
        if count == 0 || on_error == OnError::Skip {
            return Ok(first.into_iter().next().map(|first| LeftOut { count, first, images, objects }));
        }
        let mut listed: Vec<String> = first.iter().map(Defect::to_string).collect();
        if count > LISTED {
            listed.push(format!("… and {} more", count - LISTED));
        }
        let what = if count == 1 { "file or object" } else { "files or objects" };
        let them = if count == 1 { "it" } else { "them" };
        Err(FormatError::Listed {
            path: from.to_owned(),
            reason: format!("{count} {what} cannot be converted:"),
            listed,
            advice: Some(format!("pass --on-error skip to leave {them} out")),
        })
    }
}
