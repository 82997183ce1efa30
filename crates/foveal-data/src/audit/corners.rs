//! Boxes that are stored as two corners, `[x1, y1, x2, y2]`, where COCO has `[x, y, width, height]`.

use foveal_coco::Annotation;

use super::Annotations;
use super::boxes::{EDGE, leaves, of_box};
use super::cases::Cases;
use crate::{Opened, Problem, Record};

/// Share of the boxes of a set that must be possible corners, if it is to be reported as a whole. Some may be wrong in
/// another way.
const MOST: f64 = 0.95;
/// Share of the boxes of a set that must extend beyond their image. Read as sizes, the corners of a box extend beyond
/// the image unless the box lies in its upper left quarter, roughly.
const LEAVING: f64 = 0.2;
/// Share of the boxes of one image that must extend beyond it, if the set as a whole is right.
const LEAVING_OF_IMAGE: f64 = 0.5;
/// Fewest boxes of a set or an image that say something.
const FEWEST: usize = 3;

/// Numbers of boxes: all, possible corners, and boxes beyond their image.
#[derive(Clone, Copy, Default)]
struct Counts {
    all: usize,
    corners: usize,
    leaving: usize,
}

impl Counts {
    fn of<'a>(annotations: impl IntoIterator<Item = &'a Annotation>, record: &Record) -> Self {
        let mut counts = Self::default();
        for annotation in annotations {
            counts.all += 1;
            let corners = are_corners(&annotation.bbox, record);
            counts.corners += usize::from(corners);
            counts.leaving += usize::from(corners && leaves(&annotation.bbox, record));
        }
        counts
    }

    fn are_corners(&self, most: f64, leaving: f64) -> bool {
        let share = |count: usize| count as f64 / self.all.max(1) as f64;
        self.all >= FEWEST && share(self.corners) >= most && share(self.leaving) >= leaving
    }
}

/// Whether a box, read as two corners, is a box inside its image.
fn are_corners([x1, y1, x2, y2]: &[f64; 4], record: &Record) -> bool {
    let inside = *x2 <= f64::from(record.width) + EDGE && *y2 <= f64::from(record.height) + EDGE;
    *x1 >= -EDGE && *y1 >= -EDGE && x2 > x1 && y2 > y1 && inside
}

/// Finds sets and single images whose boxes are corners.
pub(super) fn corners(set: usize, opened: &Opened, by_image: &Annotations, cases: &mut Cases) {
    let data = &opened.dataset;
    let of_image = |image: usize| by_image.0[image].iter().map(|&index| &data.coco().annotations[index as usize]);
    let counts: Vec<Counts> =
        data.records().iter().enumerate().map(|(image, record)| Counts::of(of_image(image), record)).collect();
    let total = counts.iter().fold(Counts::default(), |sum, each| Counts {
        all: sum.all + each.all,
        corners: sum.corners + each.corners,
        leaving: sum.leaving + each.leaving,
    });
    let whole_set = total.are_corners(MOST, LEAVING);
    for (image, counts) in counts.iter().enumerate() {
        if whole_set || counts.are_corners(1.0, LEAVING_OF_IMAGE) {
            for annotation in of_image(image) {
                cases.add(set, Problem::CornerBox, || of_box(set, image, opened, annotation));
            }
        }
    }
}
