//! The run folder and its files (log, metrics, training state, checkpoints), and progress reports during a run.

mod appended;
mod changes;
mod evaluated;
mod events;
mod length;
mod lock;
mod log;
mod metrics;
mod position;
mod progress;
mod records;
mod rundir;
mod scaling;
mod skipped;
mod state;
mod step_log;
pub(crate) mod weight_report;

pub(crate) use changes::compare;
pub use evaluated::{Best, Evaluated, Waiting};
pub use events::Picture;
pub use length::TimeLimit;
pub use log::{LogEnd, RunLog};
pub use position::LogPosition;
pub use progress::{DrawnDetection, EpochStart, EvaluationReport, Progress, Silent};
pub(crate) use records::StepLine;
pub use records::{
    EarlyStopEvent, EarlyStopRecord, EpochEvent, EpochRecord, Evaluation, EvaluationEvent, EvaluationRecord,
    MeanLosses, NonFiniteEvent, NonFiniteRecord, OverflowEvent, OverflowRecord, StepRecord, TimeLimitEvent,
    TimeLimitRecord,
};
pub(crate) use rundir::remove_folder;
pub use rundir::{DETECTIONS, RunDir};
pub use scaling::LossScaling;
pub(crate) use skipped::SkipList;
pub use state::{Premises, StateMeta, TrainState};
#[cfg(test)]
pub(crate) use step_log::tests::READS;
pub(crate) use step_log::{BadStep, Step, StepLog, fetch, read as read_values, read_breakdown};
