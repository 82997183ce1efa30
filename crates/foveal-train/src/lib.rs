//! Training of RetinaNet: configuration, loop, schedule, optimizers, moving average, exact resume, run folder, logs.
//!
//! [`train`](train()) is the loop, from top to bottom; [`Evaluator`] evaluates a network on a set; [`bench`](bench())
//! times a step. Nothing here prints: a [`Progress`] listens.
#![recursion_limit = "256"]

mod bench;
mod config;
mod device;
mod error;
mod evaluate;
mod first_loss;
mod memory;
mod pass;
mod run;
mod session;
mod sets;
#[cfg(test)]
mod testing;
mod train;
mod update;

pub use bench::{BenchPhases, BenchReport, bench};
pub use config::{BenchConfig, EvalConfig, OptimizerKind, RunConfig, ScheduleKind, TrainConfig};
pub use device::is_host;
pub use error::TrainError;
pub use evaluate::Evaluator;
pub use memory::TrainingMemory;
pub use run::{
    Best, EpochEvent, EpochRecord, EpochStart, Evaluated, Evaluation, EvaluationEvent, EvaluationRecord,
    EvaluationReport, MeanLosses, Progress, RunDir, RunLog, Silent, StateMeta, StepRecord, TrainState,
};
pub use train::{Outcome, Summary, train};
pub use update::{Clipping, Ema, FlatTensors, Grads, Optimizer, Rule, clip_factor, from_host, learning_rate, to_host};
