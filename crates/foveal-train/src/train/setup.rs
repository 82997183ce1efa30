//! Prepares a run before its first step: data sets, network and optimizer, logs, evaluator.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use foveal_backbone::STAGES;
use foveal_data::{AugmentConfig, epoch_len};
use foveal_detector::CheckpointMeta;

use super::Trainer;
use crate::config::RunConfig;
use crate::device::is_host;
use crate::error::TrainError;
use crate::evaluate::Evaluator;
use crate::pass::{self, Activations};
use crate::run::{Evaluated, Progress, RunDir, RunLog, StepLog};
use crate::session::Session;
use crate::sets::Sets;

/// Number of steps in a log line on an accelerator where `train.log_every` is 0.
const ACCELERATOR_LOG_EVERY: usize = 20;

impl<'a> Trainer<'a> {
    /// Prepares a new run, or with `resume` restores a run after its last finished epoch.
    ///
    /// # Errors
    /// When the configuration is invalid, or data, weights or files cannot be used.
    pub(super) fn new(
        config: &RunConfig,
        device: &Device,
        run: &'a RunDir,
        resume: bool,
        progress: &'a mut dyn Progress,
        stop: &'a AtomicBool,
    ) -> Result<Self, TrainError> {
        config.validate()?;
        let device = device.clone().without_autodiff().autodiff();
        device.seed(config.train.seed);

        // Data, network and optimizer.
        let sets = Sets::open(config, run, progress)?;
        let (session, evaluated) = match resume {
            true => resumed(config, &sets, &device, run)?,
            false => (Session::start(config, sets.categories(), &device, run, progress)?, Evaluated::default()),
        };
        run.write_config(config)?;
        if !resume {
            session.save(run)?;
        }
        let log = RunLog::open(run, session.meta.step, evaluated.epoch)?;

        // Settings that depend on the training set.
        let mut config = config.clone();
        config.loss = config.loss.with_counts(&sets.objects_by_class());
        let channels = session.channels(sets.categories().len());
        config.loss.validate_lists(channels).map_err(|e| e.within("loss"))?;
        if config.train.overfit > 0 {
            config.data.augment = AugmentConfig::off();
        }
        let batches = epoch_len(&sets.train, &config.data).div_ceil(config.train.batch_size);
        let steps_per_epoch = batches.div_ceil(config.train.accumulate);
        if !resume {
            warn_of_warm_up(&config, steps_per_epoch, progress);
        }
        report_checkpointing(&config, &session, progress);

        // Checkpoint metadata and evaluator.
        let model = &session.meta.model;
        let (categories, preprocess) = (sets.categories().to_vec(), config.data.preprocess());
        let mut checkpoint = CheckpointMeta::new(model.clone(), categories, preprocess, config.eval.post());
        checkpoint.loss = Some(serde_json::to_value(&config.loss).expect("plain data is JSON"));
        let evaluator = Evaluator::new(&config, model, Arc::clone(&sets.val), &device);
        Ok(Self {
            step_log: StepLog::new(log_every(&config, &device)),
            check_first_loss: config.train.step0_check && session.new_class_head,
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
            position: 0,
        })
    }
}

/// The session after the last finished epoch, and the record of the evaluations up to it.
fn resumed(config: &RunConfig, sets: &Sets, device: &Device, run: &RunDir) -> Result<(Session, Evaluated), TrainError> {
    let session = Session::resume(config, sets.categories().len(), device, run)?;
    let mut evaluated = Evaluated::load(&run.evaluated())?;
    // An epoch that `train.max_steps` ended may have been evaluated already; it is trained again.
    evaluated.epoch = evaluated.epoch.min(session.meta.epoch);
    Ok((session, evaluated))
}

/// Number of steps in a log line. In host memory losses can be read in every step, because no device is waited for.
fn log_every(config: &RunConfig, device: &Device) -> usize {
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
