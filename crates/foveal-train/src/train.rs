//! The training loop: [`Trainer`] with `run` (whole run), `epoch`, `update` (one optimizer step) and `evaluate`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Device;
use foveal_coco::write_results;
use foveal_data::{Batch, Loader, LoaderOptions, cached_loader};
use foveal_detector::{CheckpointMeta, image_tensor};

use crate::config::RunConfig;
use crate::device::is_host;
use crate::error::{Phase, TrainError};
use crate::evaluate::Evaluator;
use crate::first_loss::{check_first_step, first_loss_check};
use crate::run::{
    Best, EpochEvent, EpochRecord, EpochStart, Evaluated, Evaluation, EvaluationRecord, EvaluationReport, LogPosition,
    LossScaling, Progress, RunDir, RunLog, Step, StepLine, StepLog,
};
use crate::session::Session;
use crate::sets::Sets;
use crate::update::{GradientOptions, learning_rate};
use finished::EpochLines;
use recover::AfterStep;
use targets::{check_classes, normalizer};
use time::TimeKeeper;

mod device;
mod finished;
mod patience;
mod recover;
mod resume;
mod setup;
mod targets;
#[cfg(test)]
mod tests;
mod time;
mod waiting;

pub(crate) use setup::{check_precision, log_every};

/// How a call of [`train`] ended.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one value in a run")]
pub enum Outcome {
    /// All epochs are done, `train.max_steps` or `train.time_limit` was reached, or there was no gain any more
    /// (`train.patience`).
    Finished(Summary),
    /// The run was stopped from outside. It can be resumed from its training state, which holds all steps.
    Interrupted {
        /// Number of finished epochs.
        epoch: usize,
        /// Number of optimizer steps made since the start of the run.
        step: u64,
    },
}

/// How a call of [`train`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With a new run.
    New,
    /// With the training state of an earlier run. A run that was killed before it saved one begins anew.
    Resume {
        /// Whether the training may go on with settings or data other than those of the saved run.
        allow_changes: bool,
    },
}

/// The result of a finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The best evaluation by `train.best_by`, including those before a resume; `None` if none had a defined value.
    pub best: Option<Best>,
    /// The last evaluation that this call of [`train`] made; `None` if it made none.
    pub evaluation: Option<Evaluation>,
    /// Number of optimizer steps made since the start of the run, including those before a resume.
    pub step: u64,
    /// The loss scale at the end, and how many steps were left out since the start of the run; `None` unless
    /// `train.precision` is `"f16"`.
    pub loss_scaling: Option<LossScaling>,
}

/// Trains a network as the configuration says, and writes logs, checkpoints and the training state to the run folder.
///
/// A resumed run continues after the optimizer step at which its training state was saved, with the same losses as a
/// run without interruption. When `stop` is set, the call saves the state and returns before the next optimizer step or
/// evaluation batch, with [`Outcome::Interrupted`]. `device` may have autodiff or not.
///
/// # Errors
/// - [`TrainError::Config`], [`TrainError::Data`], [`TrainError::Empty`], [`TrainError::Class`], [`TrainError::Model`],
///   [`TrainError::TooManySkipped`] or [`TrainError::NoStep`] when configuration, data or weights cannot be used
/// - [`TrainError::State`], [`TrainError::Refused`] or [`TrainError::Changed`] when the run cannot be resumed with them
/// - [`TrainError::Io`] or [`TrainError::Write`] when a file cannot be read or written
/// - [`TrainError::FirstLossCheck`] when the first class loss is implausible
/// - [`TrainError::NonFinite`], [`TrainError::Overflow`] or [`TrainError::NonFiniteState`] when a loss, gradient or
///   weight is NaN or infinite
/// - [`TrainError::Eval`] when the validation set cannot be evaluated
/// - [`TrainError::DoesNotFit`] when a batch is too large for the device, [`TrainError::OutOfMemory`] and
///   [`TrainError::Device`] when the device fails
///
/// # Panics
/// If a panic in the training was not caused by a failure of the device.
pub fn train(
    config: &RunConfig,
    device: &Device,
    run: &RunDir,
    start: Start,
    progress: &mut dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let mut trainer = Trainer::new(config, device, run, start, progress, stop)?;
    let mut outcome = trainer.run_on_device();
    let found = trainer.keep_last_bad_step();
    if let Err(TrainError::Overflow { finding, .. }) = &mut outcome {
        *finding = found.map(|found| found.to_string());
    }
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
    /// Keeps the time of a run with `train.time_limit`.
    time: Option<TimeKeeper>,
    /// The log lines of the epoch in progress.
    lines: EpochLines,
    /// Whether this call has said that the run waits for its images.
    told_of_waiting: bool,
    /// When the training state was saved last.
    saved: Instant,
    /// The step at which it was saved.
    saved_step: u64,
    /// Whether the next update is the first one of a new class head, whose class loss can be predicted and checked.
    check_first_loss: bool,
    /// Whether the kernels for the shapes of a step are tuned: always on a CPU, after the first step on a GPU.
    tuned: bool,
    /// The step or evaluation that was begun last.
    phase: Phase,
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
    /// Trains epoch by epoch until all epochs are done, `train.max_steps` or `train.time_limit` is reached, there is no
    /// gain any more (`train.patience`), or `stop` is set.
    fn run(&mut self) -> Result<Outcome, TrainError> {
        // If a run stopped between an epoch's last step and its evaluation, only the evaluation is redone.
        let trained = self.session.meta.epoch;
        let missing = self.is_evaluation_due(trained) && self.evaluated.epoch < trained;
        if missing && !self.evaluate(trained)? {
            return Ok(self.interrupted());
        }
        // Inside an epoch, where only its time limit ends a run with such an evaluation.
        let inside = self.is_out_of_time() && self.session.meta.epoch_steps > 0;
        if inside && self.evaluated.epoch <= trained && !self.evaluate(trained + 1)? {
            return Ok(self.interrupted());
        }
        self.finish_epoch();

        while self.session.meta.epoch < self.config.train.epochs && !self.is_out_of_steps() && !self.has_lost_patience()
        {
            let epoch = self.session.meta.epoch + 1;
            self.drop_provisional_best()?;
            match self.epoch(epoch)? {
                EpochEnd::Finished => {}
                EpochEnd::Rewound => continue,
                EpochEnd::Stopped => return Ok(self.interrupted()),
            }
            if (self.is_evaluation_due(epoch) || self.is_out_of_steps()) && !self.evaluate(epoch)? {
                return Ok(self.interrupted());
            }
            self.finish_epoch();
        }
        if self.has_lost_patience() {
            self.tell_of_early_stop();
        }
        let (best, evaluation) = (self.evaluated.best, self.evaluation.take());
        let (step, loss_scaling) = (self.session.meta.step, self.session.loss_scaling());
        Ok(Outcome::Finished(Summary { best, evaluation, step, loss_scaling }))
    }

    fn interrupted(&self) -> Outcome {
        Outcome::Interrupted { epoch: self.session.meta.epoch, step: self.session.meta.step }
    }

    /// The batches of an epoch, which counts from 1, without the first ones.
    fn batches(&self, epoch: usize, first: usize) -> Loader {
        let options = LoaderOptions {
            batch_size: self.config.train.batch_size,
            seed: self.config.train.seed,
            training: true,
            anchors: self.session.meta.model.anchors.clone(),
            matcher: self.config.matcher,
            first,
            epochs: Some(self.config.train.epochs),
        };
        let cache = self.sets.cache.clone();
        cached_loader(Arc::clone(&self.sets.train), &self.config.data, options, epoch as u64 - 1, cache)
    }

    /// One pass over the training set, or the rest of it when a run is resumed inside an epoch, then checkpoint and
    /// training state. `epoch` counts from 1.
    fn epoch(&mut self, epoch: usize) -> Result<EpochEnd, TrainError> {
        let mut batches = self.batches(epoch, self.session.meta.batch);
        let started = Instant::now();
        self.step_log.start_epoch(self.session.meta.log.take());
        self.progress.epoch_start(&EpochStart {
            epoch,
            epochs: self.config.train.epochs,
            steps: self.steps_per_epoch,
            done: self.session.meta.epoch_steps as usize,
            run_steps: self.run_steps(),
        });

        // Steps. All batches of an update are loaded first, because its normalizer is the sum of their positives.
        let mut whole = false;
        while !self.is_out_of_steps() {
            let Some(group) = self.load(&mut batches)? else {
                whole = true;
                break;
            };
            if self.stop.load(Ordering::Relaxed) {
                self.save_inside_epoch()?;
                return Ok(EpochEnd::Stopped);
            }
            if !group.is_empty() && self.step(epoch, group)? == AfterStep::Rewound {
                return Ok(EpochEnd::Rewound);
            }
            self.keep_time(epoch)?;
            self.session.meta.batch = batches.position();
            if self.is_save_due() {
                self.save_inside_epoch()?;
            }
        }
        // `train.max_steps` can be reached with the last step of an epoch.
        whole |= batches.remaining() == 0;
        if whole && self.session.meta.epoch_steps == 0 {
            return Err(TrainError::NoStep { epoch, list: self.run.skipped() });
        }
        if !whole {
            self.save_inside_epoch()?;
        }
        self.end_epoch(epoch, whole, started)?;
        Ok(EpochEnd::Finished)
    }

    /// Loads the batches of the next update, without those of which no image could be loaded. `None` at the end of the
    /// epoch.
    fn load(&mut self, batches: &mut Loader) -> Result<Option<Vec<Batch>>, TrainError> {
        let waiting = Instant::now();
        let mut group = batches.take(self.config.train.accumulate).collect::<Result<Vec<Batch>, _>>()?;
        self.step_log.add_waiting_time(waiting.elapsed().as_secs_f64());
        if group.is_empty() {
            return Ok(None);
        }
        for batch in &mut group {
            let skipped = std::mem::take(&mut batch.skipped);
            self.sets.skipped.add_loading("training", skipped, &self.config.data, self.progress)?;
        }
        group.retain(|batch| !batch.info.is_empty());
        Ok(Some(group))
    }

    /// Writes the log of an epoch's steps, the checkpoint and, if the `whole` epoch was trained, the training state. An
    /// epoch that `train.max_steps` ended is not whole: its state was saved before, and a resumed run goes on with it.
    fn end_epoch(&mut self, epoch: usize, whole: bool, started: Instant) -> Result<(), TrainError> {
        // Waits for the device: reads the epoch's last steps that are not in a log line yet.
        if let Some(record) = self.step_log.read()? {
            self.log.steps(&record);
        }
        self.progress.epoch_end();
        let (means, counts) = (self.step_log.epoch_means(), self.step_log.epoch_objects());
        let seconds = started.elapsed().as_secs_f64();
        let record = EpochRecord {
            event: EpochEvent::Epoch,
            epoch,
            step: self.session.meta.step,
            mean_loss: means.loss,
            mean_class_loss: means.class_loss,
            mean_box_loss: means.box_loss,
            lr: means.lr,
            objects: counts.objects,
            objects_without_anchor: counts.without_anchor,
            seconds,
            data_wait: (self.step_log.epoch_waited() / seconds.max(f64::MIN_POSITIVE)).min(1.0),
            breakdown: self.step_log.epoch_breakdown(),
            loss_scale: self.step_log.scaling().map(|scaling| scaling.scale),
            skipped_steps: self.step_log.epoch_skipped(),
        };
        self.log.epoch(&record);
        self.lines.epoch(&record);
        self.tell_of_loading(&record);
        self.tell_log_warnings();
        self.sets.skipped.write()?;

        // Checkpoint and training state, before the evaluation, so that a finished epoch is never lost. Waits for the
        // device, because all weights are read.
        let network = self.session.learner.network();
        self.checkpoint.save(&network, &self.run.last())?;
        if !whole {
            return Ok(());
        }
        let keep = self.config.train.keep;
        if keep > 0 {
            self.checkpoint.save(&network, &self.run.epoch(epoch))?;
            self.run.remove_epoch(epoch.saturating_sub(keep))?;
        }
        let meta = &mut self.session.meta;
        (meta.epoch, meta.batch, meta.epoch_steps) = (epoch, 0, 0);
        self.save(None)
    }

    /// Saves the training state inside an epoch, unless it was saved at this step.
    fn save_inside_epoch(&mut self) -> Result<(), TrainError> {
        if self.saved_step == self.session.meta.step {
            return Ok(());
        }
        // Waits for the device: the losses of the steps that are not in a log line yet are part of the state.
        let position = self.step_log.position()?;
        self.save(Some(position))
    }

    fn save(&mut self, position: Option<LogPosition>) -> Result<(), TrainError> {
        // A resumed run expects the log of all steps before the state.
        self.log.sync();
        self.session.meta.loss_scaling = self.step_log.scaling();
        if let (Some(limit), Some(time)) = (&mut self.session.meta.time_limit, &self.time) {
            limit.seconds = time.seconds();
        }
        self.session.save(self.run, position)?;
        (self.saved, self.saved_step) = (Instant::now(), self.session.meta.step);
        Ok(())
    }

    /// Whether the training state is to be saved after this step (`train.save_every`).
    fn is_save_due(&self) -> bool {
        let minutes = self.config.train.save_every;
        minutes > 0.0 && self.saved.elapsed().as_secs_f64() >= 60.0 * minutes
    }

    /// Reports errors of writing the log, which do not end a run.
    fn tell_log_warnings(&mut self) {
        for warning in self.log.warnings() {
            self.progress.message(&format!("warning: {warning}"));
        }
    }

    /// One optimizer step over `batches`, which are `train.accumulate` batches, or fewer at the end of an epoch.
    fn update(&mut self, epoch: usize, mut batches: Vec<Batch>) -> Result<AfterStep, TrainError> {
        // Targets. Their classes are mapped to the network's class channels where these differ.
        let classes = self.sets.categories().len();
        for batch in &mut batches {
            check_classes(batch, classes)?;
            if let Some(channels) = &self.session.meta.model.class_channels {
                channels.retarget(&mut batch.targets);
            }
        }
        let images = batches.iter().flat_map(|b| b.info.iter().map(|i| i.image_id)).collect();
        let objects = batches.iter().map(|batch| batch.objects).sum();
        let average = &mut self.session.meta.positives_average;
        let average_before = *average;
        let normalizer = normalizer(self.config.loss.normalizer, average, &batches);
        let first_loss = self
            .check_first_loss
            .then(|| first_loss_check(&self.config.loss, &self.session.meta.model, self.session.channels(classes)));

        // Forward pass, loss, backward pass, gradient norm. On a CPU the breakdown is computed together with the class
        // loss; on a GPU it takes extra operations and is computed only for steps that complete a log line.
        let options = GradientOptions {
            loss: &self.config.loss,
            normalizer,
            anchors_per_location: self.session.meta.model.anchors.anchors_per_location(),
            activations: self.config.train.activations(),
            breakdown: is_host(&self.device) || self.step_log.will_be_due() || self.check_first_loss,
            first_loss,
            clip_norm: self.config.train.clip_norm,
        };
        let inputs = batches.into_iter().map(|batch| (image_tensor(batch.images, &self.device), batch.targets));
        let mut gradients = self.session.learner.gradients(inputs, &options, &self.device);

        // The step's record for the log.
        let meta = &mut self.session.meta;
        let position = ((epoch - 1) * self.steps_per_epoch) as u64 + meta.epoch_steps;
        let lr = meta.lr_factor * learning_rate(&self.config.train, self.steps_per_epoch, meta.step, position);
        (meta.step, meta.epoch_steps) = (meta.step + 1, meta.epoch_steps + 1);
        let step = Step {
            step: self.session.meta.step,
            epoch,
            lr,
            positives: gradients.positives,
            objects,
            images,
            first_batch: self.session.meta.batch,
            normalizer,
            values: gradients.values.clone(),
            scale: gradients.scale.take(),
            breakdown: gradients.breakdown.take(),
        };
        self.step_log.push(step);

        // Waits for an accelerator in the first step, and with `train.non_finite = "skip"` or `"rewind"` in every step.
        // With a loss scale the update itself leaves out such a step, which the log then counts.
        if self.step_log.scaling().is_none()
            && self.reads_each_step()
            && let Some(bad) = self.step_log.take_bad_last()
        {
            self.session.meta.positives_average = average_before;
            return self.leave_out(bad, gradients);
        }
        if let (Some(check), Some(expected)) = (first_loss, gradients.expected.take()) {
            // Waits for the device, but only once in a run. If a loss overflows in half precision, the weights stay as
            // they are, and the next step is checked.
            if self.step_log.is_last_loss_finite() {
                check_first_step(&check, &expected, self.step_log.last())?;
                self.check_first_loss = false;
            }
        }

        // The update. It changes nothing if the loss or the gradient norm is not finite.
        self.session.learner.apply(gradients, lr);

        // Waits for the device every `train.log_every` steps. A step with a loss or gradient norm that is not finite
        // ends the run here, if it was not found above; with a loss scale only the last of many does.
        let record = if self.step_log.is_due() { self.step_log.read()? } else { None };
        if let Some(record) = &record {
            self.log.steps(record);
            self.tell_log_warnings();
        }
        self.progress.step(self.session.meta.step, record.as_ref().and_then(StepLine::means));
        Ok(AfterStep::Done)
    }

    /// Evaluates the network after `epoch` and saves it as the best checkpoint if it is the best so far by
    /// `train.best_by`. Returns `false` if the run was stopped.
    fn evaluate(&mut self, epoch: usize) -> Result<bool, TrainError> {
        let started = Instant::now();
        self.phase = Phase::Evaluation(self.session.meta.step);
        let network = self.session.learner.network();
        // Waits for the device at every batch.
        let Some(evaluation) = self.evaluator.run(&network, self.progress, self.stop)? else { return Ok(false) };

        // The best checkpoint. An undefined value, such as an AP that COCO writes as -1, is never the best. An
        // evaluation that only `train.max_steps` caused is no evaluation of the whole run: it makes the best checkpoint
        // only where there is none, and a resumed run drops it.
        let ended_inside = self.session.meta.epoch < epoch && !self.is_out_of_time();
        let provisional = ended_inside || !self.is_evaluation_due(epoch);
        let record = EvaluationRecord::new(epoch, self.session.meta.step, &evaluation);
        let best_by = &self.config.train.best_by;
        let value = best_by.value(&record.metrics, Some(evaluation.losses.total));
        let best_before = self.evaluated.best.map(|best| best.compared());
        let better = value.filter(|value| best_before.is_none_or(|before| !provisional && *value > before));
        if let Some(value) = better {
            self.evaluated.best = Some(Best::new(best_by, epoch, evaluation.metrics.ap, value));
            self.checkpoint.save(&network, &self.run.best())?;
        }
        let best = better.is_some();

        // The log, then the record that this epoch has been evaluated.
        self.log.evaluation(&record);
        self.lines.evaluation(&record, best);
        self.log_detections(&evaluation);
        self.tell_log_warnings();
        // The detections are for reports and analysis; a run does not depend on them.
        if let Err(error) = write_results(&self.run.detections(), &evaluation.detections) {
            self.progress.message(&format!("warning: the detections of the evaluation are not kept: {error}"));
        }
        self.progress.evaluation(&EvaluationReport {
            epoch,
            metrics: &evaluation.metrics,
            losses: &evaluation.losses,
            images: evaluation.images,
            left_out: evaluation.left_out,
            best,
            best_by: &self.config.train.best_by,
            value,
            best_before,
            seconds: started.elapsed().as_secs_f64(),
        });
        if provisional {
            self.evaluated.provisional |= best;
        } else {
            self.evaluated.epoch = epoch;
            self.count_patience(value);
        }
        self.evaluated.save(&self.run.evaluated())?;
        self.evaluation = Some(evaluation);
        if let Some(time) = &mut self.time {
            time.evaluated(started.elapsed());
        }
        Ok(true)
    }

    /// Removes a best checkpoint that an earlier call made inside an epoch that is continued now.
    fn drop_provisional_best(&mut self) -> Result<(), TrainError> {
        if self.evaluated.provisional {
            (self.evaluated.best, self.evaluated.provisional) = (None, false);
            self.evaluated.save(&self.run.evaluated())?;
            self.run.remove_best()?;
        }
        Ok(())
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
