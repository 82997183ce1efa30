//! Training of RetinaNet: configuration, loop, schedule, optimizers, moving average, exact resume, run folder, logs.
//!
//! [`train`](train()) is the loop, from top to bottom; [`Evaluator`] tries a network on a set; [`bench`](bench())
//! times a step. Nothing here prints: a [`Progress`] listens.
#![recursion_limit = "256"]

mod bench;
mod clip;
mod config;
mod device;
mod ema;
mod error;
mod evaluate;
mod file;
mod first_loss;
mod grads;
mod log;
mod memory;
mod optim;
mod params;
mod pass;
mod progress;
mod rundir;
mod schedule;
mod skipped;
mod start;
mod state;
mod step_log;
#[cfg(test)]
mod testing;
mod train;

pub use bench::{BenchPhases, BenchReport, bench};
pub use clip::{clip_factor, clip_factor_on_device};
pub use config::{BenchConfig, EvalConfig, OptimizerKind, RunConfig, ScheduleKind, TrainConfig};
pub use device::is_host;
pub use ema::Ema;
pub use error::TrainError;
pub use evaluate::{Evaluation, Evaluator, MeanLosses};
pub use grads::Grads;
pub use log::{EpochEvent, EpochRecord, EvaluationEvent, EvaluationRecord, RunLog, StepRecord};
pub use memory::TrainingMemory;
pub use optim::{DeviceScale, Optimizer, Rule, Scale};
pub use params::{FlatTensors, from_host, to_host};
pub use progress::{EpochStart, EvaluationReport, Progress, Silent};
pub use rundir::RunDir;
pub use schedule::learning_rate;
pub use state::{Best, Evaluated, StateMeta, TrainState};
pub use train::{Outcome, Summary, train};
