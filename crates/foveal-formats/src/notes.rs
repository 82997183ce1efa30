//! What a conversion left out or decided: one sentence for each kind, with its count and the first instance.

use std::collections::BTreeMap;
use std::path::Path;

use crate::defect::{LeftOut, Place};
use crate::tally::Tally;

/// The kinds of what a conversion leaves out or decides, in the order of their sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    NoArea,
    NoBox,
    NoShapeBox,
    Polygon,
    FourCorners,
    Rotated,
    Circle,
    Mask,
    Keypoints,
    Crowd,
    Outside,
    OtherSubset,
    LastPart,
    Spelling,
    Uploaded,
    Embedded,
    NoImage,
    NoLabelFile,
    NoObjects,
    Root,
    UnusedClass,
    Renumbered,
    SizeFromImage,
    ExportedCrowd,
    Difficult,
    Clipped,
    Beyond,
    Trimmed,
    ClassWithoutObjects,
    Supercategory,
    Area,
    Ids,
    Column,
    Segmentation,
    KeypointsField,
}

impl Kind {
    fn what(self) -> &'static str {
        match self {
            Self::NoArea => "objects whose box has no area, left out",
            Self::NoBox => "objects without a box, left out",
            Self::NoShapeBox => "shapes that have no box, such as points, lines, cuboids, skeletons and tags, left out",
            Self::Polygon => "polygons, converted to the boxes around them",
            Self::FourCorners => {
                "oriented boxes or polygons of four corners, converted to the upright boxes around them"
            }
            Self::Rotated => "rotated boxes, converted to the upright boxes around them",
            Self::Circle => "circles and ellipses, converted to the boxes around them",
            Self::Mask => "masks, converted to the boxes around them",
            Self::Keypoints => "objects with keypoints, of which the boxes alone are converted",
            Self::Crowd => {
                "objects that stand for a group, converted to crowd regions (iscrowd 1), which neither training nor \
                 evaluation counts"
            }
            Self::Outside => "shapes of tracks that are marked as outside their frame, left out",
            Self::OtherSubset => "images of other subsets, left out",
            Self::LastPart => "images that were found by the last part of their path alone",
            Self::Spelling => "images that were found under another spelling of their name",
            Self::Uploaded => "images that were found without the prefix that an upload put before their name",
            Self::Embedded => "files with an embedded image (imageData), which is not kept",
            Self::NoImage => "label files without an image, left out",
            Self::NoLabelFile => "images without a label file, converted as images without objects",
            Self::NoObjects => "images without objects, converted as background",
            Self::Root => "categories that stand for the project and have no objects, left out",
            Self::UnusedClass => "categories without objects that have the name of another category, left out",
            Self::Renumbered => "annotations whose id was used before, converted with a new id",
            Self::SizeFromImage => "images whose size was missing and was taken from the image file",
            Self::ExportedCrowd => "crowd regions, for which the format has no field, left out",
            Self::Difficult => "crowd regions, written as objects marked difficult",
            Self::Clipped => "boxes that reach beyond their image, clipped to it",
            Self::Beyond => "boxes entirely beyond their image, left out",
            Self::Trimmed => {
                "classes whose name begins or ends with a space, which readers of this format remove from it"
            }
            Self::ClassWithoutObjects => "classes without objects, which the format has no list for, left out",
            Self::Supercategory => "supercategories, for which the format has no field, left out",
            Self::Area => "areas that are not those of the boxes, for which the format has no field, left out",
            Self::Ids => "ids of images, objects and categories that are not the running numbers from 1, left out",
            Self::Column => "columns for which COCO has no field, left out",
            Self::Segmentation => "segmentations (outlines and masks), which are not converted",
            Self::KeypointsField => "keypoints of objects, which are not converted",
        }
    }
}

/// The notes of a conversion.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    left_out: Vec<String>,
    tallies: BTreeMap<Kind, Tally>,
    fields: BTreeMap<String, usize>,
}

impl Notes {
    /// Counts one of a kind; `instance` describes it, and is called for the first one alone.
    pub(crate) fn add(&mut self, kind: Kind, instance: impl FnOnce() -> String) {
        self.tallies.entry(kind).or_default().add(instance);
    }

    /// Counts an object of a file.
    pub(crate) fn at(&mut self, kind: Kind, path: &Path, place: Place, what: &str) {
        self.add(kind, || format!("{}, {place}: {what}", path.display()));
    }

    /// Counts `count` of a kind; `first` names the first ones.
    pub(crate) fn several(&mut self, kind: Kind, count: usize, first: String) {
        self.tallies.insert(kind, Tally { count, first });
    }

    /// Counts a field of an object for which the other format has none.
    pub(crate) fn field(&mut self, name: &str) {
        self.fields(name, 1);
    }

    /// Counts several fields of one name for which the other format has none.
    pub(crate) fn fields(&mut self, name: &str, count: usize) {
        if count == 0 {
            return;
        }
        match self.fields.get_mut(name) {
            Some(sum) => *sum += count,
            None => {
                self.fields.insert(name.to_owned(), count);
            }
        }
    }

    /// Notes the files and objects that were left out because they cannot be converted.
    pub(crate) fn left_out(&mut self, found: Option<LeftOut>) {
        self.left_out = found.map_or_else(Vec::new, |found| found.sentences());
    }

    /// One sentence for each kind that was counted, after those of what cannot be converted.
    pub(crate) fn sentences(&self) -> Vec<String> {
        /// Number of names of fields that are listed.
        const LISTED: usize = 20;
        let mut sentences = self.left_out.clone();
        sentences.extend(self.tallies.iter().filter_map(|(kind, tally)| tally.sentence(kind.what())));
        if !self.fields.is_empty() {
            let listed = self.fields.iter().take(LISTED).map(|(name, count)| format!("{count} `{name}`"));
            let mut listed = listed.collect::<Vec<_>>().join(", ");
            if self.fields.len() > LISTED {
                listed += ", …";
            }
            sentences.push(format!("flags and attributes for which COCO has no field, left out: {listed}"));
        }
        sentences
    }
}
