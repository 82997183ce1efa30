//! Prepares a run before its first step: data sets, network and optimizer, logs, evaluator.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::Device;
use foveal_backbone::STAGES;
use foveal_base::SettingError;
use foveal_data::{AugmentConfig, epoch_len};
use foveal_detector::{CheckpointMeta, ComputePrecision, ModelConfig};

use super::device::fits_on_device;
use super::finished::EpochLines;
use super::resume::{Resumed, resumed};
use super::time::{self, TimeKeeper};
use super::{Start, Trainer};
use crate::config::RunConfig;
use crate::device::is_host;
use crate::error::{Phase, TrainError};
use crate::evaluate::Evaluator;
use crate::pass::{self, Activations};
use crate::run::{Evaluated, LogEnd, Premises, Progress, RunDir, RunLog, StepLog};
use crate::session::Session;
use crate::sets::Sets;

/// Number of steps in a log line on an accelerator where `train.log_every` is 0.
const ACCELERATOR_LOG_EVERY: usize = 20;

/// Refuses a precision that `device` does not support, as a setting of `train.precision`.
pub(crate) fn check_precision(precision: ComputePrecision, device: &Device) -> Result<(), SettingError> {
    let unsupported = |expected: String| SettingError::new("train.precision", expected, &precision.name());
    precision.check(device).map_err(unsupported)
}

impl<'a> Trainer<'a> {
    /// Prepares a new run, or restores one from its training state.
    ///
    /// # Errors
    /// When the configuration is invalid, data, weights or files cannot be used, or a run cannot be resumed with them.
    pub(super) fn new(
        config: &RunConfig,
        device: &Device,
        run: &'a RunDir,
        start: Start,
        progress: &'a mut dyn Progress,
        stop: &'a AtomicBool,
    ) -> Result<Self, TrainError> {
        let begin = Instant::now();
        config.validate()?;
        check_precision(config.train.precision, device)?;
        let device = device.clone().without_autodiff().autodiff();
        device.seed(config.train.seed);

        // Data, network and optimizer.
        let sets = Sets::open(config, run, progress)?;
        config.train.best_by.check_class(sets.categories())?;
        let premises = premises(config, &sets, &device);
        let steps_per_epoch = premises.steps_per_epoch;
        let resume = match start {
            Start::Resume { allow_changes } if run.has_state() => Some(allow_changes),
            Start::Resume { .. } => {
                progress.message("the run was stopped before it saved a training state, so it begins anew");
                None
            }
            Start::New => None,
        };
        let Resumed { session, evaluated, log_end } = match resume {
            Some(allow_changes) => resumed(config, &sets, premises, &device, run, allow_changes, progress)?,
            None => {
                let mut session = Session::start(config, sets.categories(), &device, run, progress)?;
                session.meta.premises = Some(premises);
                Resumed { session, evaluated: Evaluated::default(), log_end: LogEnd::default() }
            }
        };
        fits_on_device(config, &sets, &session, &device)?;
        if let Some(kept) = run.write_config(config)? {
            progress.message(&format!("the earlier configuration is kept as {}", kept.display()));
        }
        let saving = Instant::now();
        if resume.is_none() {
            session.save(run, None)?;
        }
        let saving = saving.elapsed();
        let mut log = RunLog::open(run, log_end, config.train.tensorboard);
        log.warnings().iter().for_each(|warning| progress.message(&format!("warning: {warning}")));

        // Settings that depend on the training set.
        let mut config = config.clone();
        config.loss = config.loss.with_counts(&sets.objects_by_class());
        let channels = session.channels(sets.categories().len());
        config.loss.validate_lists(channels).map_err(|e| e.within("loss"))?;
        if !config.train.augments() {
            config.data.augment = AugmentConfig::off();
        }
        let mut session = session;
        session.meta.time_limit = time::kept(&config, session.meta.time_limit, steps_per_epoch, steps_per_epoch);
        if let (Some(_), Some(limit)) = (resume, session.meta.time_limit) {
            progress.message(&time::resumed_text(&limit));
        }
        let keeper = |limit| TimeKeeper::new(&config, limit, session.meta.step, begin, saving);
        let time = session.meta.time_limit.map(keeper);
        config = time::limited(&config, &session.meta, steps_per_epoch).unwrap_or(config);
        if resume.is_none() {
            warn_of_warm_up(&config, steps_per_epoch, progress);
        }
        report_checkpointing(&config, &session, progress);

        // Checkpoint metadata and evaluator.
        let model = &session.meta.model;
        let (categories, preprocess) = (sets.categories().to_vec(), config.data.preprocess());
        let mut checkpoint = CheckpointMeta::new(model.clone(), categories, preprocess, config.eval.post());
        checkpoint.loss = Some(serde_json::to_value(&config.loss).expect("plain data is JSON"));
        let evaluator = evaluator(&config, model, &sets, &device);
        Ok(Self {
            step_log: StepLog::new(log_every(&config, &device), session.meta.loss_scaling)
                .with_classes_every(config.train.log_classes_every, channels),
            tuned: is_host(&device),
            phase: Phase::Step(session.meta.step + 1),
            check_first_loss: config.train.step0_check && session.new_class_head,
            saved: Instant::now(),
            saved_step: session.meta.step,
            evaluation: None,
            config,
            device,
            run,
            progress,
            stop,
            sets,
            session,
            evaluator,
            evaluated,
            checkpoint,
            log,
            steps_per_epoch,
            time,
            lines: EpochLines::default(),
            told_of_waiting: false,
        })
    }
}

/// What the run is made with: the part of its training state that a later resume is compared with.
fn premises(config: &RunConfig, sets: &Sets, device: &Device) -> Premises {
    let batches = epoch_len(&sets.train, &config.data).div_ceil(config.train.batch_size);
    Premises {
        config: serde_json::to_value(config).expect("a configuration is JSON"),
        categories: sets.categories().to_vec(),
        training_set: sets.train.digest(),
        validation_set: sets.val.digest(),
        steps_per_epoch: batches.div_ceil(config.train.accumulate),
        device: format!("{:?}", device.clone().without_autodiff()),
        threads: rayon::current_num_threads(),
    }
}

/// The evaluator of the validation set.
fn evaluator(config: &RunConfig, model: &ModelConfig, sets: &Sets, device: &Device) -> Evaluator {
    let evaluator = Evaluator::new(config, model, Arc::clone(&sets.val), device);
    evaluator.with_precision(config.train.precision).with_cache(sets.cache.clone())
}

/// Number of steps in a log line. In host memory losses can be read in every step, because no device is waited for.
pub(crate) fn log_every(config: &RunConfig, device: &Device) -> usize {
    match config.train.log_every {
        0 if is_host(device) => 1,
        0 => ACCELERATOR_LOG_EVERY,
        n => n,
    }
}

/// Warns if the learning rate warm-up covers more than half of the run.
fn warn_of_warm_up(config: &RunConfig, steps_per_epoch: usize, progress: &mut dyn Progress) {
    let (warm_up, steps) = (config.train.warmup_steps, steps_per_epoch * config.train.epochs);
    if 2 * warm_up > steps {
        let warm_up = warm_up.min(steps);
        progress.message(&format!(
            "warning: the learning rate warm-up covers {warm_up} of the {steps} steps of the run; set a lower \
             train.warmup_steps"
        ));
    }
}

/// Reports which stages activation checkpointing cannot recompute, if there are any.
fn report_checkpointing(config: &RunConfig, session: &Session, progress: &mut dyn Progress) {
    if config.train.activations() != Activations::Recomputed {
        return;
    }
    let stages = pass::checkpointed_stages(&session.learner.model().backbone.body);
    if stages < STAGES {
        progress.message(&format!(
            "train.activation_checkpointing: {stages} of the backbone's {STAGES} stages are recomputed; the \
             activations from layer{} on are stored, because these stages have trained batch norms",
            stages + 1
        ));
    }
}
