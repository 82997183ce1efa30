//! The audit of data sets: what is only suspicious, such as equal images, equal boxes and outliers.
//!
//! Nothing that the audit finds stops a run, and opening a data set does not run it: `foveal data check` does. Each
//! detector is a file. It gives its cases to [`Cases`], which adds them to the reports of the sets.
//!
//! ```text
//! Opened::decode_with(Look::of) -> looks
//! audit([AuditSet { opened, looks }]) -> Vec<Case>, and the findings are in the reports
//! ```

mod boxes;
mod cases;
mod categories;
mod classes;
mod corners;
mod images;
mod look;
mod outliers;
mod pairs;
mod similar;

use std::collections::HashMap;

pub use cases::{Case, Spot};
pub use look::Look;

use cases::Cases;

use crate::{DataError, Opened};

/// A data set with what its decoded images look like.
pub struct AuditSet<'a> {
    /// The data set. Its report gets the findings of the audit.
    pub opened: &'a mut Opened,
    /// What each image looks like: `[images]`, or empty if the images were not decoded. `None` for a generated image.
    pub looks: Vec<Option<Look>>,
    /// Whether it is the validation set. The other sets are training sets.
    pub validation: bool,
}

/// Looks for what is suspicious in data sets, and adds it to the reports. The sets are training sets, and a validation
/// set after them. What concerns a training and the validation set is in the report of the validation set. Classes are
/// compared between them if there is one training set. Returns the first cases of each kind, at most [`Case::MOST`] of
/// a kind and set.
///
/// Image files of the same length are read to find equal ones. Other images are compared only if they were decoded.
///
/// # Errors
/// [`DataError::Io`] with the path of an image file that cannot be read.
pub fn audit(sets: &mut [AuditSet<'_>]) -> Result<Vec<Case>, DataError> {
    let mut cases = Cases::default();
    for (set, audited) in sets.iter().enumerate() {
        let by_image = Annotations::of(audited.opened);
        classes::names(set, audited.opened, &mut cases);
        // The validation set may lack classes of the training set, which `classes::across` reports.
        if set == 0 || !audited.validation {
            classes::unused(set, audited.opened, &mut cases);
        }
        images::names(set, audited.opened, &mut cases);
        images::empty(set, audited.opened, &by_image, &mut cases);
        images::colours(set, audited, &mut cases);
        boxes::boxes(set, audited.opened, &by_image, &mut cases);
        corners::corners(set, audited.opened, &by_image, &mut cases);
        pairs::pairs(set, audited.opened, &by_image, &mut cases);
        outliers::outliers(set, audited.opened, &by_image, &mut cases);
    }
    if let [train, val] = &*sets
        && val.validation
    {
        classes::across([train.opened, val.opened], &mut cases);
    }
    let sets_of = images::all(sets);
    let equal = images::equal(sets, &sets_of, &mut cases)?;
    similar::similar(sets, &sets_of, &equal, &mut cases);
    Ok(cases.report(sets))
}

/// The indices of the annotations of each image in [`Dataset::coco`](crate::Dataset::coco), crowd regions included:
/// `[images]`.
struct Annotations(Vec<Vec<u32>>);

impl Annotations {
    fn of(opened: &Opened) -> Self {
        let data = &opened.dataset;
        let index_of: HashMap<i64, usize> = data.records().iter().enumerate().map(|(i, r)| (r.image_id, i)).collect();
        let mut of_image = vec![Vec::new(); data.len()];
        for (number, annotation) in (0..).zip(&data.coco().annotations) {
            if let Some(&index) = index_of.get(&annotation.image_id) {
                of_image[index].push(number);
            }
        }
        Self(of_image)
    }
}
