//! COCO's detection metrics, computed by [`hotcoco`], whose results equal those of pycocotools.
//!
//! [`evaluate`] and [`score`] take a ground truth and detections in memory, [`score_files`] takes two files. Boxes and
//! scores are passed on unchanged in `f64`. Ids are renumbered, which keeps their order.

mod engine;
mod error;
mod metrics;
mod near_zero;
mod resample;
mod table;

pub use engine::{ScoreTimes, Scored, evaluate, score, score_files, score_files_timed};
pub use error::EvalError;
pub use metrics::{CategoryMetrics, Metrics};
pub use near_zero::near_zero;
pub use resample::{Matched, Resampled};
