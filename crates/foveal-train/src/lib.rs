//! Training of RetinaNet (arXiv 1708.02002): configuration, training loop, learning rate schedule, optimizers, moving
//! average of the weights, exact resume, run folder and logs.
//!
//! [`train`](train()) runs the training loop, [`Evaluator`] evaluates a network on a data set, and [`bench`](bench())
//! measures the time of a step. The library prints nothing: it reports to a [`Progress`] that the caller passes in.
#![recursion_limit = "256"]

mod bench;
mod blackbox;
mod config;
mod device;
mod error;
mod evaluate;
mod fault;
mod first_loss;
mod memory;
mod pass;
mod run;
mod session;
mod sets;
mod step_clock;
#[cfg(test)]
mod testing;
mod train;
mod update;

pub use bench::{BenchPhases, BenchReport, bench, write_raw_outputs};
pub use blackbox::{
    BatchTrace, BlackBox, Finding, LayerRecord, LossPart, Number, RecordedBatch, RecordedImage, RecordedNormalizer,
    ReplacedImage, Replay, Report, StepLosses,
};
pub use config::{
    BenchConfig, BestBy, EvalConfig, NonFinitePolicy, OptimizerKind, RunConfig, ScheduleKind, TrainConfig,
};
pub use device::is_host;
pub use error::{Phase, SavedState, TrainError};
pub use evaluate::Evaluator;
pub use fault::{DeviceFault, FaultKind};
pub use foveal_image::RgbImage;
pub use memory::{
    AutoBatch, Bound, DeviceLimits, DoesNotFit, InferenceCheck, Room, TooLarge, TrainingMemory, auto_batch,
};
pub use run::{
    Best, DETECTIONS, DrawnDetection, EarlyStopEvent, EarlyStopRecord, EpochEvent, EpochRecord, EpochStart, Evaluated,
    Evaluation, EvaluationEvent, EvaluationRecord, EvaluationReport, LogEnd, LogPosition, LossScaling, MeanLosses,
    NonFiniteEvent, NonFiniteRecord, OverflowEvent, OverflowRecord, Picture, Premises, Progress, RunDir, RunLog,
    Silent, StateMeta, StepRecord, TimeLimit, TimeLimitEvent, TimeLimitRecord, TrainState, Waiting,
};
pub use step_clock::{StepClock, StepTiming};
pub use train::{Outcome, Start, Summary, train};
pub use update::{
    Clipping, Ema, Grads, Optimizer, ParamTensor, ParamTensors, Rule, clip_factor, from_host, learning_rate, to_host,
};
