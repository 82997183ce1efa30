//! The table of classes.

use std::cmp::Ordering;

use foveal_coco::CocoDataset;
use serde::Serialize;

use super::operating::{OperatingPoint, ThresholdRule, choose, operating_points};
use crate::resample::{ClassValues, Matched};

/// The row of a category in the table of classes. Metrics are fractions from 0 to 1, and `None` (`null`) if the
/// category has no objects.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassRow {
    /// Id of the category.
    pub id: i64,
    /// Name of the category.
    pub name: String,
    /// Number of objects, without crowd regions.
    pub objects: usize,
    /// Number of detections, without those on crowd regions; at most 100 in each image count.
    pub detections: usize,
    /// Average precision, the mean over the IoU thresholds 0.50, 0.55, …, 0.95.
    #[serde(rename = "AP")]
    pub ap: Option<f64>,
    /// Average precision at an IoU threshold of 0.50.
    #[serde(rename = "AP50")]
    pub ap50: Option<f64>,
    /// Average precision at an IoU threshold of 0.75.
    #[serde(rename = "AP75")]
    pub ap75: Option<f64>,
    /// Average recall with at most 100 detections per image, the mean over the IoU thresholds.
    #[serde(rename = "AR")]
    pub ar: Option<f64>,
    /// The score threshold with the best F1 at an IoU of 0.5, with its precision and recall; `None` if no detection
    /// matches an object.
    pub best_f1: Option<OperatingPoint>,
}

/// The column by which a table of classes is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassColumn {
    /// Ascending order of the ids.
    Id,
    /// Alphabetical order of the names.
    Name,
    /// Most objects first.
    Objects,
    /// Highest AP first; classes without objects last.
    Ap,
    /// Highest AP50 first; classes without objects last.
    Ap50,
    /// Highest AP75 first; classes without objects last.
    Ap75,
    /// Highest AR first; classes without objects last.
    Ar,
    /// Highest best F1 first; classes without a correct detection last.
    F1,
}

/// The rows of all categories in ascending order of their ids. `values` are those of all sizes.
pub(crate) fn rows(truth: &CocoDataset, matched: &Matched, values: &[Option<ClassValues>]) -> Vec<ClassRow> {
    let name = |id: i64| truth.categories.iter().find(|c| c.id == id).map_or_else(String::new, |c| c.name.clone());
    let categories = matched.categories().into_iter().zip(matched.of_all_sizes()).zip(values);
    categories
        .map(|((id, category), values)| ClassRow {
            id,
            name: name(id),
            objects: category.object_count(),
            detections: category.detections.iter().filter(|d| d.hit(0).is_some()).count(),
            ap: values.map(|v| v.ap),
            ap50: values.map(|v| v.ap50),
            ap75: values.map(|v| v.ap75),
            ar: values.map(|v| v.ar[2]),
            best_f1: choose(&operating_points(category), ThresholdRule::BestF1),
        })
        .collect()
}

/// Sorts the rows by a column; rows with equal values keep their order.
pub fn sort_classes(rows: &mut [ClassRow], column: ClassColumn) {
    let value = |row: &ClassRow| match column {
        ClassColumn::Ap => row.ap,
        ClassColumn::Ap50 => row.ap50,
        ClassColumn::Ap75 => row.ap75,
        ClassColumn::Ar => row.ar,
        ClassColumn::F1 => row.best_f1.map(|point| point.f1),
        ClassColumn::Id | ClassColumn::Name | ClassColumn::Objects => None,
    };
    match column {
        ClassColumn::Id => rows.sort_by_key(|row| row.id),
        ClassColumn::Name => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        ClassColumn::Objects => rows.sort_by_key(|row| std::cmp::Reverse(row.objects)),
        _ => rows.sort_by(|a, b| value(b).partial_cmp(&value(a)).unwrap_or(Ordering::Equal)),
    }
}
