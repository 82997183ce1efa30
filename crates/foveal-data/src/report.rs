//! The result of the checks of a data set before a run: all defects in one report.

use std::collections::BTreeMap;
use std::fmt;

use foveal_base::printable;
use serde::Serialize;

use crate::Record;

/// Number of examples that a report keeps for each kind of defect.
const SHOWN: usize = 5;

/// A kind of defect of a data set. In JSON it is written in snake case, for example `missing_image`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// The image file does not exist.
    MissingImage,
    /// The image file cannot be decoded, is truncated, or needs more memory than `data.max_image_bytes`.
    BrokenImage,
    /// The size of an image in the annotation file differs from the size of the image file.
    SizeMismatch,
    /// Two images of the annotation file have the same id. The first is used.
    DuplicateImage,
    /// An image of the annotation file has no file name.
    NoFileName,
    /// Two annotations have the same id. The first is used.
    DuplicateAnnotation,
    /// An annotation refers to an image that is not in the annotation file.
    UnknownImage,
    /// An annotation refers to a category that is not in the annotation file.
    UnknownCategory,
    /// A box has a coordinate that is not a finite number.
    NotFinite,
    /// A box has a width or height of 0 or less.
    EmptyBox,
    /// A box lies completely outside its image.
    OutsideBox,
    /// A record of `images` is not an object, or one of its fields has no meaning. Its annotations are left out too.
    ImageRecord,
    /// A record of `annotations` is not an object, or one of its fields has no meaning, such as a box of three numbers.
    AnnotationRecord,
    /// A record of `categories` is not an object, or one of its fields has no meaning.
    CategoryRecord,
    /// The annotation file does not give the size of an image, and the image files are not read.
    SizeUnknown,
    /// All boxes lie within 0 to 1, so that they look like fractions of the image. The data set cannot be used.
    Fractions,
    /// No object of the data set can be used, so that the data set cannot be used either.
    NoObjects,
    /// The annotation file has another defect.
    Other,
    /// A box extends beyond the edge of its image by more than half a pixel. It is clipped and used.
    ClippedBox,
    /// The width or height of an object is below `data.min_box`. The object is dropped.
    SmallBox,
    /// The boxes of an image refer to its pixels as stored, without the EXIF orientation. The image is used without the
    /// EXIF orientation.
    StoredOrientation,
    /// The annotation file does not give the size of an image. The size of the image file is used.
    NoSize,
    /// The name of an image differs from that of its file in case, composed letters, separators or percent-encoding.
    OtherName,
    /// A category without objects has the name of another category. It is no class.
    DoubledCategory,
    /// A category of the supercategory `none`, which is the root of an export of Roboflow, has no objects. It is a
    /// class nevertheless.
    UnusedRoot,
    /// An object is of a class that `data.classes` drops. It is background or ignored.
    DroppedClass,
}

impl Problem {
    /// Returns whether a defect of this kind stops a run with `data.on_error = "fail"`. The others are corrected and
    /// only reported.
    pub fn is_error(self) -> bool {
        self < Problem::ClippedBox
    }

    /// The plural noun that follows a count in a report.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Problem::MissingImage => "images not found",
            Problem::BrokenImage => "images that cannot be decoded",
            Problem::SizeMismatch => "images whose size differs from the annotation file",
            Problem::DuplicateImage => "image ids that are used more than once",
            Problem::NoFileName => "images without a file name",
            Problem::DuplicateAnnotation => "annotation ids that are used more than once",
            Problem::UnknownImage => "annotations of images that are not in the file",
            Problem::UnknownCategory => "annotations of categories that are not in the file",
            Problem::NotFinite => "boxes with a coordinate that is not a finite number",
            Problem::EmptyBox => "boxes without area",
            Problem::OutsideBox => "boxes completely outside their image",
            Problem::ImageRecord => "records of `images` that cannot be read",
            Problem::AnnotationRecord => "records of `annotations` that cannot be read",
            Problem::CategoryRecord => "records of `categories` that cannot be read",
            Problem::SizeUnknown => "images without a size, whose files are not read here",
            Problem::Fractions => "boxes within 0 to 1, which look like fractions of the image: expected pixels",
            Problem::NoObjects => "data set without a usable object",
            Problem::Other => "other defects of the annotation file",
            Problem::ClippedBox => "boxes that extend beyond the edge of their image: clipped",
            Problem::SmallBox => "objects smaller than data.min_box: dropped",
            Problem::StoredOrientation => "images whose boxes ignore the EXIF orientation: loaded without it",
            Problem::NoSize => "images without a size in the annotation file: size read from the image file",
            Problem::OtherName => "images whose file has a similar name: read",
            Problem::DoubledCategory => "categories without objects and with the name of another category: no classes",
            Problem::UnusedRoot => "root category (supercategory \"none\") without objects: it is a class",
            Problem::DroppedClass => "objects of classes that data.classes drops",
        }
    }
}

/// The defects of one kind in a [`CheckReport`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Findings {
    /// Number of defects of this kind.
    pub count: usize,
    /// Descriptions of the first five defects, with image or annotation id.
    pub examples: Vec<String>,
}

/// An image or annotation that was left out of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skipped {
    /// Path of the annotation file or folder of the image, if the data set was joined from several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// The id of the image in its annotation file; 0 if the record of the annotation file has none that can be read.
    pub image_id: i64,
    /// The id of the annotation; `None` if the whole image was left out, or if the id cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotation_id: Option<i64>,
    /// The kind of defect that is the reason.
    pub problem: Problem,
    /// Description of the defect, with the id and, for an image, the file.
    pub reason: String,
}

/// The result of the checks of one data set. `Display` writes it in several lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CheckReport {
    /// Path of the annotation file, or the name of a generated data set. The paths of all sets if several were joined.
    pub set: String,
    /// Number of images that can be used.
    pub images: usize,
    /// Number of images that can be used and have no objects.
    pub empty_images: usize,
    /// Number of objects that can be used, without crowd regions.
    pub objects: usize,
    /// Number of crowd regions that can be used.
    pub crowds: usize,
    /// Whether every image was decoded. Otherwise damage of the pixels was not looked for.
    pub decoded: bool,
    /// The defects that were found, by kind.
    pub findings: BTreeMap<Problem, Findings>,
    /// The images and annotations that were left out.
    pub skipped: Vec<Skipped>,
}

impl Skipped {
    /// Returns whether this is an image that was left out because it cannot be read. An image whose id occurs twice does
    /// not count, because its first record is used.
    pub fn is_unreadable_image(&self) -> bool {
        use Problem::{BrokenImage, MissingImage, NoFileName, SizeMismatch};
        self.annotation_id.is_none() && [BrokenImage, MissingImage, NoFileName, SizeMismatch].contains(&self.problem)
    }
}

impl CheckReport {
    /// Returns the number of images that were left out because they cannot be read.
    pub fn unreadable_images(&self) -> usize {
        self.skipped.iter().filter(|s| s.is_unreadable_image()).count()
    }

    /// Returns whether nothing was left out and no defect stops a run with `data.on_error = "fail"`.
    pub fn is_clean(&self) -> bool {
        self.errors() == 0 && self.skipped.is_empty()
    }

    /// Returns the number of defects that stop a run with `data.on_error = "fail"`.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|(problem, _)| problem.is_error()).map(|(_, found)| found.count).sum()
    }

    /// Returns the number of defects of one kind.
    pub fn count(&self, problem: Problem) -> usize {
        self.findings.get(&problem).map_or(0, |found| found.count)
    }

    /// Returns whether the data set as a whole cannot be used, whatever `data.on_error` is.
    pub fn is_unusable(&self) -> bool {
        self.count(Problem::NoObjects) + self.count(Problem::Fractions) > 0
    }

    /// Returns one line with the numbers of images, objects and defects of each kind, and the first example of each
    /// kind that stops a run or concerns a category.
    pub fn summary(&self) -> String {
        let mut text = format!("{} images, {} objects", self.images, self.objects);
        for (problem, found) in &self.findings {
            text += &format!("; {} {}", found.count, problem.describe());
            let named = problem.is_error() || matches!(problem, Problem::DoubledCategory | Problem::UnusedRoot);
            if let (true, Some(first)) = (named, found.examples.first()) {
                text += &format!(" (first: {first})");
            }
        }
        text
    }

    /// Adds the report of another set. Examples and reasons begin with the name of their set. `first` says whether this
    /// report is still empty.
    pub(crate) fn join(&mut self, other: CheckReport, first: bool) {
        let CheckReport { set, images, empty_images, objects, crowds, decoded, findings, skipped } = other;
        self.set = if first { set.clone() } else { format!("{}, {set}", self.set) };
        self.images += images;
        self.empty_images += empty_images;
        self.objects += objects;
        self.crowds += crowds;
        self.decoded = decoded && (first || self.decoded);
        for (problem, found) in findings {
            let own = self.findings.entry(problem).or_default();
            own.count += found.count;
            let left = SHOWN - own.examples.len();
            own.examples.extend(found.examples.iter().take(left).map(|text| in_set(&set, text)));
        }
        self.skipped.extend(skipped.into_iter().map(|skipped| Skipped {
            reason: in_set(&set, &skipped.reason),
            set: Some(set.clone()),
            ..skipped
        }));
    }

    /// Counts the images, objects and crowd regions that can be used.
    pub(crate) fn count_records(&mut self, records: &[Record]) {
        self.images = records.len();
        self.empty_images = records.iter().filter(|r| r.objects.is_empty()).count();
        self.objects = records.iter().map(|r| r.objects.len()).sum();
        self.crowds = records.iter().map(|r| r.crowds.len()).sum();
    }

    /// Counts a defect.
    pub(crate) fn add(&mut self, problem: Problem, text: impl fmt::Display) {
        let found = self.findings.entry(problem).or_default();
        found.count += 1;
        if found.examples.len() < SHOWN {
            found.examples.push(text.to_string());
        }
    }

    /// Counts several defects of which one is described.
    pub(crate) fn add_many(&mut self, problem: Problem, count: usize, first: impl fmt::Display) {
        self.add(problem, first);
        self.count_more(problem, count - 1);
    }

    /// Counts defects that are not described.
    pub(crate) fn count_more(&mut self, problem: Problem, count: usize) {
        if count > 0 {
            self.findings.entry(problem).or_default().count += count;
        }
    }

    /// Counts a defect and lists the image or annotation as left out.
    pub(crate) fn skip(&mut self, image_id: i64, annotation_id: Option<i64>, problem: Problem, reason: String) {
        self.add(problem, &reason);
        self.skipped.push(Skipped { set: None, image_id, annotation_id, problem, reason });
    }
}

/// A description of a defect that begins with its set.
fn in_set(set: &str, text: &str) -> String {
    if text.starts_with(set) { text.to_owned() } else { format!("{set}: {text}") }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} images ({} without objects), {} objects, {} crowd regions",
            printable(&self.set),
            self.images,
            self.empty_images,
            self.objects,
            self.crowds
        )?;
        if self.findings.is_empty() {
            return write!(f, "\n  no defects found");
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
                write!(f, "\n    {}", printable(example))?;
            }
            if found.count > found.examples.len() {
                write!(f, "\n    … and {} more", found.count - found.examples.len())?;
            }
        }
        Ok(())
    }
}
