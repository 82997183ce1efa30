//! What the checks before a run found, in one summary.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// So many cases of a kind are spelt out in a summary.
const SHOWN: usize = 5;

/// A kind of defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// The image file is not there.
    MissingImage,
    /// The image file cannot be decoded or is truncated.
    BrokenImage,
    /// The annotation file gives another size than the image file has.
    SizeMismatch,
    /// Two images share an id.
    DuplicateImage,
    /// An image without a file name.
    NoFileName,
    /// Two annotations share an id.
    DuplicateAnnotation,
    /// An annotation on an image that is not in the file.
    UnknownImage,
    /// An annotation of a category that is not in the file.
    UnknownCategory,
    /// A box with a coordinate that is no number.
    NotFinite,
    /// A box without area.
    EmptyBox,
    /// A box that lies outside its image.
    OutsideBox,
    /// Another defect of the annotation file.
    Other,
    /// A box that reaches over its image's edge: clipped.
    ClippedBox,
    /// A box below `min_box`: dropped.
    SmallBox,
    /// An image whose boxes were drawn before its EXIF rotation: decoded as stored.
    StoredOrientation,
    /// An image without a size in the annotation file: its file's is taken.
    NoSize,
}

impl Problem {
    /// Whether it stops a run with `on_error = "fail"`; the others are handled and only told.
    pub fn is_error(self) -> bool {
        self < Problem::ClippedBox
    }

    fn describe(self) -> &'static str {
        match self {
            Problem::MissingImage => "images not found",
            Problem::BrokenImage => "images that cannot be decoded",
            Problem::SizeMismatch => "images of another size than annotated",
            Problem::DuplicateImage => "image ids used twice",
            Problem::NoFileName => "images without a file name",
            Problem::DuplicateAnnotation => "annotation ids used twice",
            Problem::UnknownImage => "annotations on unknown images",
            Problem::UnknownCategory => "annotations of unknown categories",
            Problem::NotFinite => "boxes that are not numbers",
            Problem::EmptyBox => "boxes without area",
            Problem::OutsideBox => "boxes outside their image",
            Problem::Other => "other defects",
            Problem::ClippedBox => "boxes clipped at the image's edge",
            Problem::SmallBox => "boxes below data.min_box dropped",
            Problem::StoredOrientation => "rotated images whose boxes refer to the stored pixels: decoded as stored",
            Problem::NoSize => "images without a size in the file: measured",
        }
    }
}

/// All cases of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Findings {
    /// How many.
    pub count: usize,
    /// The first few, spelt out.
    pub examples: Vec<String>,
}

/// An image or annotation that was left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skipped {
    /// The image.
    pub image_id: i64,
    /// The annotation, where it is not the whole image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotation_id: Option<i64>,
    /// Why.
    pub problem: Problem,
    /// The case spelt out.
    pub reason: String,
}

/// What the checks of one set found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CheckReport {
    /// The set, by its annotation file.
    pub set: String,
    /// Images that can be used.
    pub images: usize,
    /// Of these, images without objects.
    pub empty_images: usize,
    /// Objects that can be used.
    pub objects: usize,
    /// Crowd regions.
    pub crowds: usize,
    /// Everything found, by kind.
    pub findings: BTreeMap<Problem, Findings>,
    /// Everything left out.
    pub skipped: Vec<Skipped>,
}

impl CheckReport {
    /// Whether nothing was left out and nothing stands against a run with `on_error = "fail"`.
    pub fn is_clean(&self) -> bool {
        self.errors() == 0 && self.skipped.is_empty()
    }

    /// The number of defects that stop a run with `on_error = "fail"`.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|(problem, _)| problem.is_error()).map(|(_, found)| found.count).sum()
    }

    /// The number of defects of one kind.
    pub fn count(&self, problem: Problem) -> usize {
        self.findings.get(&problem).map_or(0, |found| found.count)
    }

    /// One line.
    pub fn summary(&self) -> String {
        let mut text = format!("{} images, {} objects", self.images, self.objects);
        for (problem, found) in &self.findings {
            text += &format!("; {} {}", found.count, problem.describe());
            if let (true, Some(first)) = (problem.is_error(), found.examples.first()) {
                text += &format!(" (first: {first})");
            }
        }
        text
    }

    pub(crate) fn add(&mut self, problem: Problem, text: impl fmt::Display) {
        let found = self.findings.entry(problem).or_default();
        found.count += 1;
        if found.examples.len() < SHOWN {
            found.examples.push(text.to_string());
        }
    }

    pub(crate) fn skip(&mut self, image_id: i64, annotation_id: Option<i64>, problem: Problem, reason: String) {
        self.add(problem, &reason);
        self.skipped.push(Skipped { image_id, annotation_id, problem, reason });
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} images ({} without objects), {} objects, {} crowd regions",
            self.set, self.images, self.empty_images, self.objects, self.crowds
        )?;
        if self.findings.is_empty() {
            return write!(f, "\n  nothing found");
        }
        for (problem, found) in &self.findings {
            write!(
                f,
                "\n  {}: {} {}",
                if problem.is_error() { "error" } else { "note" },
                found.count,
                problem.describe()
            )?;
            for example in &found.examples {
                write!(f, "\n    {example}")?;
            }
            if found.count > found.examples.len() {
                write!(f, "\n    … and {} more", found.count - found.examples.len())?;
            }
        }
        Ok(())
    }
}
