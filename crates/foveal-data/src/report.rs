//! The result of the checks of a data set before a run: all defects in one report.

use std::collections::BTreeMap;
use std::fmt;

use foveal_base::printable;
use serde::Serialize;

use crate::{Problem, Record};

/// Number of examples that a report keeps for each kind of defect.
const SHOWN: usize = 5;

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
    /// Returns whether this is an image that was left out because it cannot be read. An image whose id occurs twice
    /// does not count, because its first record is used.
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
