//! COCO's detection metrics, computed by [`hotcoco`], whose results equal those of pycocotools.
//!
//! [`evaluate`] and [`score`] take a ground truth and detections in memory, [`score_files`] takes two files. Boxes and
//! scores are passed on unchanged in `f64`. Ids are renumbered, which keeps their order.
//!
//! [`Analyzer`] says where detections are right and wrong: by class, size of the objects and number of objects in an
//! image, with the kinds of errors, the confusion matrix, calibration, curves, likely label errors and intervals.
//! [`explain()`] finds the likely causes of low metrics.

mod analysis;
mod engine;
mod error;
mod explain;
mod image_boxes;
mod layout;
mod metrics;
mod near_zero;
mod resample;
mod size_band;
mod table;

pub use analysis::{
    Analysis, Analyzer, CONFIDENCE, Calibration, CalibrationBin, CategoryCalibration, CategoryCurve, ClassColumn,
    ClassRow, Confusion, ConfusionCell, Curve, Curves, ImageRow, Interval, LabelError, LabelErrorKind, MetricName,
    OperatingPoint, Resamples, SizeRow, ThresholdRule, Tide, TideError, columns, interval_table, sort_classes,
};
pub use engine::{ScoreTimes, Scored, ScoredFiles, evaluate, score, score_files};
pub use error::EvalError;
pub use explain::{ApAtIou, CERTAIN, Check, Explanation, Measured, explain};
pub use metrics::{CategoryMetrics, Metrics};
pub use near_zero::near_zero;
pub use resample::{ClassValues, Matched, Resampled};
pub use size_band::SizeBand;
