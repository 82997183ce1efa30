//! What stands before the first step: data, network and optimizer, log, evaluator.

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

/// Steps of a line of the log on a device that is waited for, where `train.log_every` leaves it open.
const ACCELERATOR_LOG_EVERY: usize = 20;

impl<'a> Trainer<'a> {
    /// A run that is new, or as its last finished epoch left it.
    ///
    /// # Errors
    /// When configuration, data, weights or files are unusable.
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

        // The configuration as this run's data make it.
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

        // What the loop writes and evaluates with.
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
        })
    }
}

/// The session after the last finished epoch, and what is known of evaluations up to it.
fn resumed(config: &RunConfig, sets: &Sets, device: &Device, run: &RunDir) -> Result<(Session, Evaluated), TrainError> {
    let session = Session::resume(config, sets.categories().len(), device, run)?;
    let mut evaluated = Evaluated::load(&run.evaluated())?;
    // An epoch that `train.max_steps` cut short may have been evaluated; it comes again.
    evaluated.epoch = evaluated.epoch.min(session.meta.epoch);
    Ok((session, evaluated))
}

/// Steps of a line of the log. In host memory reading waits for nothing.
fn log_every(config: &RunConfig, device: &Device) -> usize {
    match config.train.log_every {
        0 if is_host(device) => 1,
        0 => ACCELERATOR_LOG_EVERY,
        n => n,
    }
}

fn warn_of_warm_up(config: &RunConfig, steps_per_epoch: usize, progress: &mut dyn Progress) {
    let (warm_up, steps) = (config.train.warmup_steps, steps_per_epoch * config.train.epochs);
    if 2 * warm_up > steps {
        let warm_up = warm_up.min(steps);
        progress.message(&format!("warning: the warm-up takes {warm_up} of {steps} steps (train.warmup_steps)"));
    }
}

/// Says which stages activation checkpointing leaves out.
fn report_checkpointing(config: &RunConfig, session: &Session, progress: &mut dyn Progress) {
    if config.train.activations() != Activations::Recomputed {
        return;
    }
    let stages = pass::checkpointed_stages(&session.learner.model().backbone.body);
    if stages < STAGES {
        progress.message(&format!(
            "train.activation_checkpointing: {stages} of the backbone's {STAGES} stages; those from layer{} on are kept, \
             since they have trained batch norms",
            stages + 1
        ));
    }
}
