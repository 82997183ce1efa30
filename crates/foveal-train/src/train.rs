//! The training loop: [`Trainer`] with `run` (whole run), `epoch`, `update` (one optimizer step) and `evaluate`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Device;
use foveal_anchors::ImageTargets;
use foveal_data::{Batch, Loader, LoaderOptions, loader};
use foveal_detector::{CheckpointMeta, image_tensor};

use crate::config::RunConfig;
use crate::device::is_host;
use crate::error::TrainError;
use crate::evaluate::Evaluator;
use crate::first_loss::{check_first_step, first_loss_check};
use crate::run::{
    Best, EpochEvent, EpochRecord, EpochStart, Evaluated, Evaluation, EvaluationRecord, EvaluationReport, Progress,
    RunDir, RunLog, Step, StepLog,
};
use crate::session::Session;
use crate::sets::Sets;
use crate::update::{GradientOptions, learning_rate};
use recover::AfterStep;
use targets::{check_classes, normalizer};

mod recover;
mod setup;
mod targets;
#[cfg(test)]
mod tests;

/// How a call of [`train`] ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done, or `train.max_steps` was reached.
    Finished(Summary),
    /// The run was stopped from outside. It can be resumed from the training state of its last finished epoch.
    Interrupted {
        /// Number of finished epochs.
        epoch: usize,
    },
}

/// The result of a finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The evaluation with the highest AP, including those before a resume; `None` if the run was never evaluated.
    pub best: Option<Best>,
    /// The last evaluation that this call of [`train`] made; `None` if it made none.
    pub evaluation: Option<Evaluation>,
    /// Number of optimizer steps made since the start of the run, including those before a resume.
    pub step: u64,
}

/// Trains a network as the configuration says, and writes logs, checkpoints and the training state to the run folder.
///
/// With `resume`, training continues after the last finished epoch of the run, with the same losses as in a run without
/// interruption. When `stop` is set, the call returns before the next optimizer step or evaluation batch, with
/// [`Outcome::Interrupted`]. `device` may have autodiff or not.
///
/// # Errors
/// [`TrainError::Config`], [`TrainError::Data`], [`TrainError::Empty`], [`TrainError::Class`] or [`TrainError::Model`]
/// when configuration, data or weights cannot be used; [`TrainError::State`] when the run cannot be resumed with them;
/// [`TrainError::Io`] or [`TrainError::Write`] when a file cannot be read or written;
/// [`TrainError::FirstLossCheck`] when the first class loss is implausible; [`TrainError::NonFinite`] when a loss or
/// gradient is NaN or infinite; [`TrainError::Eval`] when the validation set cannot be evaluated.
pub fn train(
    config: &RunConfig,
    device: &Device,
    run: &RunDir,
    resume: bool,
    progress: &mut dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let mut trainer = Trainer::new(config, device, run, resume, progress, stop)?;
    let outcome = trainer.run();
    trainer.keep_last_bad_step();
    outcome
}

/// A run in progress.
struct Trainer<'a> {
    /// The configuration, with class weights computed from the training set, and without augmentation under
    /// `train.overfit`.
    config: RunConfig,
    /// The device, with autodiff.
    device: Device,
    run: &'a RunDir,
    progress: &'a mut dyn Progress,
    /// Set from outside to stop the run.
    stop: &'a AtomicBool,
    sets: Sets,
    session: Session,
    evaluator: Evaluator,
    evaluated: Evaluated,
    /// The last evaluation that this call made.
    evaluation: Option<Evaluation>,
    /// What checkpoints store in addition to the weights.
    checkpoint: CheckpointMeta,
    log: RunLog,
    step_log: StepLog,
    steps_per_epoch: usize,
    /// Number of batches of the epoch before those of the next step.
    position: usize,
    /// Whether the next update is the first one of a new class head, whose class loss can be predicted and checked.
    check_first_loss: bool,
}

/// How an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EpochEnd {
    /// Its steps are done, or `train.max_steps` is reached.
    Finished,
    /// The run was stopped from outside.
    Stopped,
    /// The run went back to its last saved state.
    Rewound,
}

impl Trainer<'_> {
    /// Trains epoch by epoch until all epochs are done, `train.max_steps` is reached, or `stop` is set.
    fn run(&mut self) -> Result<Outcome, TrainError> {
        // If a run stopped between an epoch's last step and its evaluation, only the evaluation is redone.
        let trained = self.session.meta.epoch;
        if self.is_evaluation_due(trained) && self.evaluated.epoch < trained && !self.evaluate(trained)? {
            return Ok(Outcome::Interrupted { epoch: self.session.meta.epoch });
        }

        while self.session.meta.epoch < self.config.train.epochs && !self.is_out_of_steps() {
            let epoch = self.session.meta.epoch + 1;
            match self.epoch(epoch)? {
                EpochEnd::Finished => {}
                EpochEnd::Rewound => continue,
                EpochEnd::Stopped => return Ok(Outcome::Interrupted { epoch: self.session.meta.epoch }),
            }
            if (self.is_evaluation_due(epoch) || self.is_out_of_steps()) && !self.evaluate(epoch)? {
                return Ok(Outcome::Interrupted { epoch: self.session.meta.epoch });
            }
        }
        let (best, evaluation) = (self.evaluated.best, self.evaluation.take());
        Ok(Outcome::Finished(Summary { best, evaluation, step: self.session.meta.step }))
    }

    /// The batches of an epoch, which counts from 1.
    fn batches(&self, epoch: usize) -> Loader {
        let options = LoaderOptions {
            batch_size: self.config.train.batch_size,
            seed: self.config.train.seed,
            training: true,
            anchors: self.session.meta.model.anchors.clone(),
            matcher: self.config.matcher,
        };
        loader(Arc::clone(&self.sets.train), &self.config.data, options, epoch as u64 - 1)
    }

    /// One pass over the training set, then checkpoint and training state. `epoch` counts from 1.
    fn epoch(&mut self, epoch: usize) -> Result<EpochEnd, TrainError> {
        let mut batches = self.batches(epoch);
        let started = Instant::now();
        self.step_log.start_epoch();
        self.position = 0;
        self.progress.epoch_start(&EpochStart { epoch, epochs: self.config.train.epochs, steps: self.steps_per_epoch });

        // Steps. All batches of an update are loaded first, because its normalizer is the sum of their positives.
        while !self.is_out_of_steps() {
            let waiting = Instant::now();
            let group = batches.by_ref().take(self.config.train.accumulate).collect::<Result<Vec<Batch>, _>>()?;
            self.step_log.add_waiting_time(waiting.elapsed().as_secs_f64());
            if group.is_empty() {
                break;
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(EpochEnd::Stopped);
            }
            if self.update(epoch, group)? == AfterStep::Rewound {
                return Ok(EpochEnd::Rewound);
            }
        }

        // Waits for the device: reads the epoch's last steps that are not in a log line yet.
        if let Some(record) = self.step_log.read()? {
            self.log.line(&record)?;
        }
        self.progress.epoch_end();
        let means = self.step_log.epoch_means();
        self.log.epoch(&EpochRecord {
            event: EpochEvent::Epoch,
            epoch,
            step: self.session.meta.step,
            mean_loss: means.loss,
            mean_class_loss: means.class_loss,
            mean_box_loss: means.box_loss,
            lr: means.lr,
            seconds: started.elapsed().as_secs_f64(),
            breakdown: self.step_log.epoch_breakdown(),
        })?;

        // Checkpoint and training state, before the evaluation, so that a finished epoch is never lost. Waits for the
        // device, because all weights are read.
        let network = self.session.learner.network();
        self.checkpoint.save(&network, &self.run.last())?;
        let keep = self.config.train.keep;
        if keep > 0 {
            self.checkpoint.save(&network, &self.run.epoch(epoch))?;
            self.run.remove_epoch(epoch.saturating_sub(keep))?;
        }
        // An epoch that `train.max_steps` ends is not marked as finished, because runs resume only at the start of an
        // epoch.
        if !self.is_out_of_steps() {
            self.session.meta.epoch = epoch;
            self.session.save(self.run)?;
        }
        Ok(EpochEnd::Finished)
    }

    /// One optimizer step over `batches`, which are `train.accumulate` batches, or fewer at the end of an epoch.
    fn update(&mut self, epoch: usize, mut batches: Vec<Batch>) -> Result<AfterStep, TrainError> {
        // Targets. Their classes are mapped to the network's class channels where these differ.
        let classes = self.sets.categories().len();
        for batch in &mut batches {
            self.sets.skipped.add_loading(&batch.skipped, self.progress)?;
            check_classes(batch, classes)?;
            if let Some(channels) = &self.session.meta.model.class_channels {
                channels.retarget(&mut batch.targets);
            }
        }
        let images = batches.iter().flat_map(|b| b.info.iter().map(|i| i.image_id)).collect();
        let average_before = self.session.meta.positives_average;
        let normalizer = normalizer(self.config.loss.normalizer, &mut self.session.meta.positives_average, &batches);
        let (first_batch, count) = (self.position, batches.len());
        self.position += count;
        let expected = self.check_first_loss.then(|| {
            let targets: Vec<ImageTargets> = batches.iter().flat_map(|b| b.targets.iter().cloned()).collect();
            let check = first_loss_check(&self.config.loss, &self.session.meta.model, self.session.channels(classes));
            (check, check.expected(&targets, normalizer))
        });

        // Forward pass, loss, backward pass, gradient norm. On a CPU the breakdown is computed together with the class
        // loss; on a GPU it takes extra operations and is computed only for steps that complete a log line.
        let options = GradientOptions {
            loss: &self.config.loss,
            normalizer,
            anchors_per_location: self.session.meta.model.anchors.anchors_per_location(),
            activations: self.config.train.activations(),
            breakdown: is_host(&self.device) || self.step_log.will_be_due() || self.check_first_loss,
            clip_norm: self.config.train.clip_norm,
        };
        let inputs = batches.into_iter().map(|batch| (image_tensor(batch.images, &self.device), batch.targets));
        let mut gradients = self.session.learner.gradients(inputs, &options, &self.device);

        // The step's record for the log.
        let lr = learning_rate(&self.config.train, self.steps_per_epoch, self.session.meta.step)
            * self.session.meta.recovered.lr_factor;
        self.session.meta.step += 1;
        let step = Step {
            step: self.session.meta.step,
            epoch,
            lr,
            positives: gradients.positives,
            images,
            first_batch,
            batches: count,
            normalizer,
            values: gradients.values.clone(),
            breakdown: gradients.breakdown.take(),
        };
        self.step_log.push(step);

        // Waits for an accelerator in the first step, and with `train.non_finite = "skip"` or `"rewind"` in every step.
        if self.reads_each_step()
            && let Some(bad) = self.step_log.take_bad_last()
        {
            self.session.meta.positives_average = average_before;
            return self.leave_out(bad, gradients);
        }
        if let Some((check, expected)) = expected {
            // Waits for the device, but only once in a run.
            check_first_step(&check, &expected, self.step_log.last())?;
            self.check_first_loss = false;
        }

        // The update. It changes nothing if the loss or the gradient norm is not finite.
        self.session.learner.apply(gradients, lr);

        // Waits for the device every `train.log_every` steps. A step with a loss or gradient norm that is not finite
        // ends the run here, if it was not found above.
        let record = if self.step_log.is_due() { self.step_log.read()? } else { None };
        if let Some(record) = &record {
            self.log.line(record)?;
        }
        self.progress.step(self.session.meta.step, record.as_ref());
        Ok(AfterStep::Done)
    }

    /// Evaluates the network after `epoch` and saves it as the best checkpoint if its AP is the highest so far. Returns
    /// `false` if the run was stopped.
    fn evaluate(&mut self, epoch: usize) -> Result<bool, TrainError> {
        let started = Instant::now();
        let network = self.session.learner.network();
        // Waits for the device at every batch.
        let Some(evaluation) = self.evaluator.run(&network, self.progress, self.stop)? else { return Ok(false) };

        // The best checkpoint.
        let ap = evaluation.metrics.ap;
        let best = self.evaluated.best.is_none_or(|best| ap > best.ap);
        if best {
            self.evaluated.best = Some(Best { epoch, ap });
            self.checkpoint.save(&network, &self.run.best())?;
        }

        // The log, then the record that this epoch has been evaluated.
        self.log.evaluation(&EvaluationRecord::new(epoch, self.session.meta.step, &evaluation))?;
        self.progress.evaluation(&EvaluationReport {
            epoch,
            metrics: &evaluation.metrics,
            losses: &evaluation.losses,
            best,
            seconds: started.elapsed().as_secs_f64(),
        });
        self.evaluated.epoch = epoch;
        self.evaluated.save(&self.run.evaluated())?;
        self.evaluation = Some(evaluation);
        Ok(true)
    }

    /// Whether the network is evaluated after `epoch`: every `train.eval_every` epochs and after the last.
    fn is_evaluation_due(&self, epoch: usize) -> bool {
        let settings = &self.config.train;
        epoch == settings.epochs || (settings.eval_every > 0 && epoch.is_multiple_of(settings.eval_every))
    }

    /// Whether the limit `train.max_steps` is reached.
    fn is_out_of_steps(&self) -> bool {
        let most = self.config.train.max_steps as u64;
        most > 0 && self.session.meta.step >= most
    }
}
