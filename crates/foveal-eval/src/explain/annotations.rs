//! Checks of the annotations alone.

use std::collections::{HashMap, HashSet};

use foveal_coco::{Annotation, CocoDataset};

use super::{CERTAIN, Check};
use crate::image_boxes::percent;

/// Fraction of the annotations with a defect from which it is a cause.
const MANY: f64 = 0.2;
/// Largest area that COCO's metrics count.
const LARGEST_AREA: f64 = 1e10;

/// Checks the annotations, and returns those that can be evaluated.
pub(super) fn check(truth: &CocoDataset) -> (CocoDataset, Vec<Check>) {
    let images: HashSet<i64> = truth.images.iter().map(|image| image.id).collect();
    let categories: HashSet<i64> = truth.categories.iter().map(|category| category.id).collect();
    let listed = |a: &&Annotation| images.contains(&a.image_id) && categories.contains(&a.category_id);
    let finite = |a: &&Annotation| a.area.is_finite() && a.bbox.iter().all(|v| v.is_finite());
    let all = truth.annotations.len();
    let usable: Vec<Annotation> = truth.annotations.iter().filter(|a| listed(a) && finite(a)).cloned().collect();
    let crowds = usable.iter().filter(|a| a.iscrowd).count();
    let objects = usable.len() - crowds;
    let unlisted = all - truth.annotations.iter().filter(listed).count();
    let mut checks = vec![no_objects(truth, objects, crowds)];
    let share = |count: usize| count as f64 / all.max(1) as f64;
    let mut defect = |cause, count: usize, what: &str, strength: f64, advice: &'static str| {
        let measured = format!("{count} of {all} annotations {what}");
        let found = share(count) >= MANY && count > 0;
        checks.push(if found {
            Check::found(cause, strength * share(count), measured, advice)
        } else {
            Check::nothing(cause, measured)
        });
    };
    defect(
        "crowd_objects",
        crowds,
        "are crowd regions (iscrowd), which do not count as objects",
        if objects == 0 { CERTAIN } else { 0.6 },
        "Set iscrowd to 0 for single objects",
    );
    defect(
        "unlisted_annotations",
        unlisted,
        "are of an image or a category that the file does not list",
        if objects == 0 { CERTAIN } else { 0.8 },
        "Correct image_id, category_id or the lists of images and categories in the annotation file",
    );
    let bad = usable.iter().filter(|a| a.bbox[2] <= 0.0 || a.bbox[3] <= 0.0).count();
    let bad = bad + truth.annotations.iter().filter(listed).filter(|a| !finite(a)).count();
    defect(
        "empty_annotations",
        bad,
        "have a box without width or height, or without numbers",
        0.8,
        "Correct bbox in the annotation file: [x, y, width, height] in pixels",
    );
    let outside = usable.iter().filter(|a| !(0.0..=LARGEST_AREA).contains(&a.area)).count();
    defect("areas", outside, "have an area below 0 or above 1e10, which does not count", 0.9, "Correct area");
    let mut seen: HashMap<(i64, i64, [u64; 4]), usize> = HashMap::new();
    for a in &usable {
        *seen.entry((a.image_id, a.category_id, a.bbox.map(f64::to_bits))).or_default() += 1;
    }
    let repeated: usize = seen.values().map(|count| count - 1).sum();
    defect(
        "duplicate_annotations",
        repeated,
        "repeat the box and the category of another one in their image",
        0.9,
        "Remove the repeated annotations: a detection can fit only one of them",
    );
    let clean = CocoDataset { images: truth.images.clone(), annotations: usable, categories: truth.categories.clone() };
    (clean, checks)
}

fn no_objects(truth: &CocoDataset, objects: usize, crowds: usize) -> Check {
    let all = truth.annotations.len();
    let measured = format!(
        "The annotations have {objects} objects ({} of {all} annotations) in {} images of {} categories",
        percent(objects as f64 / all.max(1) as f64),
        truth.images.len(),
        truth.categories.len()
    );
    if objects > 0 {
        return Check::nothing("no_objects", measured);
    }
    // Where all are crowd regions or cannot be used, another check says so with the same certainty.
    let strength = if all == 0 { CERTAIN } else { CERTAIN - 0.02 };
    let why = if crowds > 0 { "All that can be used are crowd regions. " } else { "" };
    Check::found(
        "no_objects",
        strength,
        measured,
        format!("{why}Without objects, every metric is undefined. Evaluate on annotations that have objects"),
    )
}
