//! Data sets of which nothing is left to train or evaluate on.

use foveal_coco::{Annotation, CocoDataset};

use crate::shapes::Split;
use crate::{CheckReport, Problem};

/// The annotations of a data set before any of them is left out.
pub(crate) struct Annotated {
    /// Number of annotations of objects (no crowd regions), including bad records.
    objects: usize,
    /// Number of boxes if all of them are fractions of the image; 0 otherwise.
    fractions: usize,
    /// Description of the first box.
    first: String,
}

impl Annotated {
    /// Counts the annotations of a file that has `bad` further annotations that cannot be read.
    pub(crate) fn of(coco: &CocoDataset, bad: usize) -> Self {
        let has_box = |a: &&Annotation| a.bbox.iter().all(|v| v.is_finite()) && a.bbox[2] > 0.0 && a.bbox[3] > 0.0;
        let boxes = || coco.annotations.iter().filter(has_box);
        // A box in pixels that lies between 0 and 1 covers a part of one pixel.
        let all_fractions = boxes().all(|a| a.bbox.iter().all(|v| (0.0..=1.0).contains(v)));
        let first = boxes().next().map_or_else(String::new, |a| {
            let [x, y, w, h] = a.bbox;
            format!("annotation {} (image {}): [{x}, {y}, {w}, {h}]", a.id, a.image_id)
        });
        Self {
            objects: bad + coco.annotations.iter().filter(|a| !a.iscrowd).count(),
            fractions: if all_fractions { boxes().count() } else { 0 },
            first,
        }
    }

    /// Adds to the report of a checked data set why it cannot be used, if so. `coco` has the annotations that are left.
    pub(crate) fn judge(&self, split: Split, coco: &CocoDataset, report: &mut CheckReport) {
        if self.fractions > 0 {
            report.add_many(Problem::Fractions, self.fractions, &self.first);
        }
        // A validation set of background images is in order; its metrics are undefined.
        let none_left = match split {
            Split::Train => report.objects == 0,
            Split::Val => self.objects > 0 && !coco.annotations.iter().any(|a| !a.iscrowd),
        };
        if none_left && report.images > 0 {
            let cause = self.cause(report);
            report.add(Problem::NoObjects, format!("{}: {cause}", report.set));
        }
    }

    fn cause(&self, report: &CheckReport) -> String {
        if self.objects == 0 {
            return "the file has no annotations of objects, expected at least one".to_owned();
        }
        if self.fractions > 0 {
            return format!(
                "all {} boxes lie within 0 to 1, so they look like fractions of the image; expected [x, y, width, \
                 height] in pixels",
                self.fractions
            );
        }
        let listed: Vec<String> = [
            Problem::AnnotationRecord,
            Problem::UnknownImage,
            Problem::UnknownCategory,
            Problem::NotFinite,
            Problem::EmptyBox,
            Problem::OutsideBox,
            Problem::SmallBox,
            Problem::MissingImage,
            Problem::BrokenImage,
            Problem::SizeMismatch,
            Problem::DroppedClass,
        ]
        .into_iter()
        .filter(|problem| report.count(*problem) > 0)
        .map(|problem| format!("{} {}", report.count(problem), problem.describe()))
        .collect();
        format!(
            "the file has {} annotations of objects, of which none can be used: {}",
            self.objects,
            listed.join("; ")
        )
    }
}
