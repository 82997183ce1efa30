//! Analysis of detections beyond COCO's twelve metrics.

mod calibration;
mod classes;
mod confusion;
mod curves;
mod groups;
mod intervals;
mod label_errors;
mod operating;
mod scene;
mod tide;

use foveal_coco::{CocoDataset, CocoDetection};
use serde::Serialize;

pub use calibration::{Calibration, CalibrationBin, CategoryCalibration};
pub use classes::{ClassColumn, ClassRow, sort_classes};
pub use confusion::{Confusion, ConfusionCell};
pub use curves::{CategoryCurve, Curve, Curves};
pub use groups::{ImageRow, SizeRow};
pub use intervals::{CONFIDENCE, Interval, MetricName, Resamples};
pub use label_errors::{LabelError, LabelErrorKind};
pub use operating::{OperatingPoint, ThresholdRule};
pub use tide::{Tide, TideError};

use operating::{choose, operating_points};
use scene::Scenes;

use crate::resample::Matched;
use crate::{EvalError, SizeBand};

/// Where detections are right and wrong. Every field is a key in JSON with the same name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// A row for each category, in ascending order of the ids.
    pub classes: Vec<ClassRow>,
    /// AP by the size of objects: COCO's three bands, then the user's.
    pub sizes: Vec<SizeRow>,
    /// AP by the number of objects in an image.
    pub objects_per_image: Vec<ImageRow>,
    /// Shares of the kinds of errors.
    pub tide: Tide,
    /// Which classes are taken for which.
    pub confusion: Confusion,
    /// Whether scores are probabilities; `None` (`null`) if a score is not in 0 to 1 or there are no detections.
    pub calibration: Option<Calibration>,
    /// Curves of precision, recall and F1.
    pub curves: Curves,
    /// Annotations that are probably wrong.
    pub label_errors: Vec<LabelError>,
}

/// Detections of a data set together with its ground truth, for analysis.
pub struct Analyzer<'a> {
    truth: &'a CocoDataset,
    detections: &'a [CocoDetection],
    bands: Vec<SizeBand>,
    matched: Matched,
}

impl<'a> Analyzer<'a> {
    /// Matches detections with the objects of a ground truth. `bands` are size bands in addition to COCO's.
    ///
    /// # Errors
    /// - [`EvalError::UnknownImage`] if a detection is on an image that the ground truth does not list.
    /// - [`EvalError::AnnotationNotFinite`], [`EvalError::DetectionNotFinite`] if a box, area or score is not finite.
    /// - [`EvalError::Engine`] if hotcoco reports an error.
    pub fn new(truth: &'a CocoDataset, detections: &'a [CocoDetection], bands: &[SizeBand]) -> Result<Self, EvalError> {
        let bands: Vec<SizeBand> = SizeBand::coco().into_iter().chain(bands.iter().cloned()).collect();
        let matched = Matched::with_sizes(truth, detections, &bands)?;
        Ok(Self { truth, detections, bands, matched })
    }

    /// Computes everything but intervals.
    pub fn analysis(&self) -> Analysis {
        let Self { truth, detections, bands, matched } = self;
        let values = matched.values(&vec![1; matched.images().len()]);
        let classes = classes::rows(truth, matched, &values[0]);
        let thresholds: Vec<Option<f64>> = classes.iter().map(|row| row.best_f1.map(|point| point.threshold)).collect();
        let scenes = Scenes::new(truth, detections);
        let floors: Vec<f64> = thresholds.iter().map(|threshold| threshold.unwrap_or(0.0)).collect();
        Analysis {
            sizes: groups::sizes(bands, matched, &values),
            objects_per_image: groups::images(matched),
            tide: Tide::new(&scenes, matched.recalls()),
            confusion: Confusion::new(&scenes, &floors),
            calibration: Calibration::new(matched),
            curves: Curves::new(matched),
            label_errors: label_errors::label_errors(&scenes, truth, detections, &thresholds),
            classes,
        }
    }

    /// Evaluates `count` resamples of the images. `draw` gives how often each image, in ascending order of the ids,
    /// counts in the resample with an index.
    pub fn resamples(&self, count: usize, draw: impl Fn(usize) -> Vec<u32> + Sync) -> Resamples {
        let labels: Vec<String> = self.bands.iter().map(|band| band.label.clone()).collect();
        Resamples::new(&self.matched, &labels, count, draw)
    }

    /// The number of images of the ground truth.
    pub fn images(&self) -> usize {
        self.matched.images().len()
    }

    /// A score threshold for each category, in ascending order of the ids; `None` for a category in which no threshold
    /// satisfies the rule.
    pub fn thresholds(&self, rule: ThresholdRule) -> Vec<(i64, Option<OperatingPoint>)> {
        let categories = self.matched.categories().into_iter().zip(self.matched.of_all_sizes());
        categories.map(|(id, category)| (id, choose(&operating_points(category), rule))).collect()
    }
}
