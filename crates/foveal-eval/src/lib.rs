//! COCO's detection figures, on [`hotcoco`], which equals pycocotools digit by digit.
//!
//! [`evaluate`] takes a ground truth and detections in memory, [`score_files`] two files. The
//! boxes and scores go in as they are, in `f64`; only ids are renumbered, in an order-keeping way.

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
