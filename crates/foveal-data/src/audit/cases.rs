//! The cases of an audit, of which all are counted and the first are kept.

use std::collections::BTreeMap;

use foveal_boxes::BBox;

use super::AuditSet;
use crate::Problem;

/// One thing that an audit found.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it is.
    pub problem: Problem,
    /// Index of the set whose report has it.
    pub set: usize,
    /// Description with the ids of images, annotations or categories.
    pub text: String,
    /// Where it can be seen; empty for what concerns no image.
    pub spots: Vec<Spot>,
}

impl Case {
    /// Largest number of cases of a kind that are kept for each set.
    pub const MOST: usize = 24;
}

/// A place where a case can be seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    /// Index of the set.
    pub set: usize,
    /// Index of the image in the set.
    pub image: usize,
    /// The boxes of the case in pixels of the image, not clipped to it, with their classes; empty for the whole image.
    pub boxes: Vec<(BBox, u32)>,
}

impl Spot {
    /// An image as a whole.
    pub(super) fn image(set: usize, image: usize) -> Self {
        Self { set, image, boxes: Vec::new() }
    }
}

/// The cases that were found so far.
#[derive(Default)]
pub(super) struct Cases {
    found: BTreeMap<(usize, Problem), Found>,
}

#[derive(Default)]
struct Found {
    count: usize,
    first: Vec<Case>,
}

impl Cases {
    /// Counts a case, which is described only if it is one of the first of its kind and set.
    pub(super) fn add(&mut self, set: usize, problem: Problem, describe: impl FnOnce() -> (String, Vec<Spot>)) {
        let found = self.found.entry((set, problem)).or_default();
        found.count += 1;
        if found.first.len() < Case::MOST {
            let (text, spots) = describe();
            found.first.push(Case { problem, set, text, spots });
        }
    }

    /// Adds the findings to the reports of the sets. Returns the first cases of each kind, in the order of the kinds.
    pub(super) fn report(self, sets: &mut [AuditSet<'_>]) -> Vec<Case> {
        let mut all = Vec::new();
        for ((set, problem), Found { count, first }) in self.found {
            let report = &mut sets[set].opened.report;
            // What the checks have reported, such as clipped boxes, has cases here but is not counted again.
            if !SHOWN_ONLY.contains(&problem) {
                first.iter().for_each(|case| report.add(problem, &case.text));
                report.count_more(problem, count - first.len());
            }
            all.extend(first);
        }
        all
    }
}

/// Kinds that the checks of a data set report, and the audit only shows.
const SHOWN_ONLY: [Problem; 2] = [Problem::ClippedBox, Problem::SmallBox];
