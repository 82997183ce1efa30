//! What a conversion left out or decided, with counts.

use std::path::Path;

use super::Difficult;
use super::xml::VocObject;
use crate::defect::LeftOut;
use crate::tally::Tally;

/// Counts of a conversion.
#[derive(Default)]
pub(super) struct Notes {
    left_out: Vec<String>,
    no_area: Tally,
    difficult: Tally,
    other_name: Tally,
    by_file_name: Tally,
    repeated: Tally,
    truncated: usize,
    occluded: usize,
    pose: usize,
    parts: usize,
}

impl Notes {
    /// Files and objects that cannot be read.
    pub(super) fn left_out(&mut self, found: Option<LeftOut>) {
        self.left_out = found.map_or_else(Vec::new, |found| found.sentences());
    }

    /// An object whose box has no area.
    pub(super) fn no_area(&mut self, path: &Path, object: &VocObject) {
        let [x1, y1, x2, y2] = object.corners;
        self.no_area
            .add(|| format!("{}, line {}: {:?} [{x1}, {y1}, {x2}, {y2}]", path.display(), object.line, object.name));
    }

    /// The flags of an object that is converted.
    pub(super) fn flags(&mut self, path: &Path, object: &VocObject) {
        if object.difficult {
            self.difficult.add(|| format!("{}, line {}: {:?}", path.display(), object.line, object.name));
        }
        self.truncated += usize::from(object.truncated);
        self.occluded += usize::from(object.occluded);
        self.pose += usize::from(object.pose);
        self.parts += object.parts;
    }

    /// An image with the name of its annotation file, whose `<filename>` is another name.
    pub(super) fn other_name(&mut self, path: &Path, inside: &str, image: &str) {
        self.other_name.add(|| format!("{} has the <filename> {inside} and belongs to {image}", path.display()));
    }

    /// An image that was found by the `<filename>` alone.
    pub(super) fn by_file_name(&mut self, path: &Path, image: &str) {
        self.by_file_name.add(|| format!("{} belongs to {image}", path.display()));
    }

    /// A line of a list with the name of an earlier line.
    pub(super) fn repeated(&mut self, path: &Path, line: usize, stem: &str) {
        self.repeated.add(|| format!("{}, line {line}: {stem}", path.display()));
    }

    /// One sentence for each kind of what was left out or decided.
    pub(super) fn sentences(&self, difficult: Difficult) -> Vec<String> {
        let difficult = match difficult {
            Difficult::Crowd => {
                "objects marked difficult, converted to crowd regions (iscrowd 1), which neither training nor \
                 evaluation counts"
            }
            Difficult::Object => "objects marked difficult, converted to ordinary objects",
            Difficult::Drop => "objects marked difficult, left out",
        };
        let tallies = [
            (&self.no_area, "objects whose box has no area, left out"),
            (&self.difficult, difficult),
            (
                &self.other_name,
                "files whose <filename> is not their image's name, converted with the image of their name",
            ),
            (&self.by_file_name, "files without an image of their name, converted with the image of their <filename>"),
            (&self.repeated, "lines of the list that repeat an earlier name, left out"),
        ];
        let mut sentences = self.left_out.clone();
        sentences.extend(tallies.into_iter().filter_map(|(tally, what)| tally.sentence(what)));
        let flags = [
            (self.truncated, "`truncated`"),
            (self.occluded, "`occluded`"),
            (self.pose, "`pose`"),
            (self.parts, "`part`"),
        ];
        let flags: Vec<String> =
            flags.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
        if !flags.is_empty() {
            sentences.push(format!(
                "flags and parts of objects for which COCO has no field, left out: {}",
                flags.join(", ")
            ));
        }
        sentences
    }
}
