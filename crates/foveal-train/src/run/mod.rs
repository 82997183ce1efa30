//! The run folder and its files (log, metrics, training state, checkpoints), and progress reports during a run.

mod log;
mod metrics;
mod progress;
mod records;
mod rundir;
mod skipped;
mod state;
mod step_log;
pub(crate) mod weight_report;

pub use log::RunLog;
pub use progress::{EpochStart, EvaluationReport, Progress, Silent};
pub use records::{
    EpochEvent, EpochRecord, Evaluation, EvaluationEvent, EvaluationRecord, MeanLosses, NonFiniteEvent,
    NonFiniteRecord, StepRecord,
};
pub use rundir::RunDir;
pub(crate) use skipped::SkipList;
pub(crate) use state::weights_file;
pub use state::{Best, Evaluated, Recovered, StateMeta, TrainState};
pub(crate) use step_log::{BadStep, Step, StepLog, read_breakdown};
