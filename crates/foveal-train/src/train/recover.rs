//! What the training loop does at a step whose loss or gradient norm is not finite (`train.non_finite`), and the black
//! box of such a step.

use std::time::Instant;

use foveal_data::Batch;
use foveal_weights::named_tensors;

use super::{Trainer, resume};
use crate::blackbox::{BlackBox, Finding, RecordedBatch, RecordedImage, ReplacedImage, Report, StepLosses};
use crate::config::NonFinitePolicy;
use crate::device::is_host;
use crate::error::TrainError;
use crate::run::{BadStep, NonFiniteEvent, NonFiniteRecord, RunLog, Step};
use crate::session::Session;
use crate::update::Gradients;

/// What follows an optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterStep {
    /// The next step, because this one is done or was left out.
    Done,
    /// The steps after the last saved state, to which the run went back.
    Rewound,
}

impl Trainer<'_> {
    /// Whether the losses of every step are read before its update. In host memory no device is waited for.
    pub(super) fn reads_each_step(&self) -> bool {
        is_host(&self.device) || self.check_first_loss || self.config.train.non_finite != NonFinitePolicy::Stop
    }

    /// Leaves out the step `bad`, whose `gradients` are not applied, and does what `train.non_finite` says. Network,
    /// optimizer and moving average of the weights are as before the step.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] when the step ends the run; others when a file cannot be read or written.
    pub(super) fn leave_out(&mut self, bad: BadStep, gradients: Gradients) -> Result<AfterStep, TrainError> {
        self.session.learner.discard(gradients);
        let most = self.config.train.max_non_finite as u64;
        let event = match self.config.train.non_finite {
            NonFinitePolicy::Stop => return self.give_up(bad),
            _ if self.session.meta.non_finite_steps >= most => {
                self.progress.message(&format!(
                    "warning: the run ends, because it has already left out or rewound as many steps as \
                     train.max_non_finite allows ({most})"
                ));
                return self.give_up(bad);
            }
            NonFinitePolicy::Skip => NonFiniteEvent::Skip,
            NonFinitePolicy::Rewind => NonFiniteEvent::Rewind,
        };
        self.progress.message(&format!("warning: {}", bad.error()));
        self.keep_black_box(&bad);
        match event {
            NonFiniteEvent::Skip => self.session.meta.non_finite_steps += 1,
            NonFiniteEvent::Rewind => self.rewind()?,
        }
        let (step, count) = (self.session.meta.step, self.session.meta.non_finite_steps);
        let lr_factor = self.session.meta.lr_factor;
        self.log.line(&NonFiniteRecord {
            event,
            step,
            epoch: bad.step.epoch,
            non_finite_step: bad.step.step,
            losses: StepLosses::of(&bad.values),
            images: bad.step.images,
            count,
            lr_factor,
        });
        self.tell_log_warnings();
        let what = match event {
            NonFiniteEvent::Skip => "the step was left out".to_owned(),
            NonFiniteEvent::Rewind => {
                format!("the run went back to step {step}; learning rates are multiplied by {lr_factor}")
            }
        };
        self.progress.message(&format!("warning: {what} (train.non_finite, {count} of at most {most} such steps)"));
        match event {
            NonFiniteEvent::Skip => {
                self.progress.step(step, None);
                Ok(AfterStep::Done)
            }
            NonFiniteEvent::Rewind => {
                self.progress.epoch_end();
                Ok(AfterStep::Rewound)
            }
        }
    }

    /// Ends the run at the step `bad`, which [`Trainer::keep_last_bad_step`] then keeps.
    fn give_up(&mut self, bad: BadStep) -> Result<AfterStep, TrainError> {
        let error = bad.error();
        self.step_log.keep_bad(bad);
        Err(error)
    }

    /// Goes back to the last saved state, with a learning rate that is lower by `train.rewind_factor`. The state is
    /// saved again with the lower rate, so that a resume goes on with it. Log lines of the steps that are repeated are
    /// removed.
    ///
    /// # Errors
    /// When the state or the log cannot be read or written.
    fn rewind(&mut self) -> Result<(), TrainError> {
        let (path, mut state) = resume::load(self.run, self.progress)?;
        let before = &self.session.meta;
        state.meta.non_finite_steps = before.non_finite_steps + 1;
        state.meta.lr_factor = before.lr_factor * self.config.train.rewind_factor;
        state.meta.time_limit = before.time_limit;
        let log_end = resume::log_end(&self.config, &state.meta, self.evaluated);
        let position = state.meta.log.clone();
        self.session = Session::resume(&self.config, self.sets.categories().len(), &self.device, &path, state)?;
        self.session.save(self.run, position)?;
        (self.saved, self.saved_step) = (Instant::now(), self.session.meta.step);
        self.log = RunLog::open(self.run, log_end, self.config.train.tensorboard);
        Ok(())
    }

    /// Writes the black box of the step that ended the run, if one did because its loss or gradient norm is not finite.
    /// Returns where its values turned, if that was found.
    pub(super) fn keep_last_bad_step(&mut self) -> Option<Finding> {
        let bad = self.step_log.take_bad()?;
        self.keep_black_box(&bad)
    }

    /// Writes the black box of a step, and reports and returns where its values turned. If that fails, it is reported
    /// too, and the run goes on as the policy says.
    fn keep_black_box(&mut self, bad: &BadStep) -> Option<Finding> {
        let mut black_box = self.black_box(bad);
        let precision = self.config.train.precision;
        let found = black_box.examine(&self.device);
        match &found {
            Ok(finding) => self.progress.message(&format!(
                "step {}: {finding}. {} What to do: {}.",
                bad.step.step,
                finding.cause(precision),
                finding.remedy(precision)
            )),
            Err(reason) => self.progress.message(&format!("warning: step {}: {reason}", bad.step.step)),
        }
        let root = self.run.root().display();
        match black_box.save(self.run) {
            Ok(folder) => self.progress.message(&format!(
                "step {} is kept in {}; `foveal replay {root}` runs it again",
                bad.step.step,
                folder.display()
            )),
            Err(error) => self.progress.message(&format!("warning: step {} could not be kept: {error}", bad.step.step)),
        }
        found.ok()
    }

    /// The black box of a step, whose batches are loaded again. The weights are those of before the step, because an
    /// update whose loss is not finite changes nothing.
    fn black_box(&self, bad: &BadStep) -> BlackBox {
        let step = &bad.step;
        let mut report = Report::new(bad, &self.session.meta, self.sets.categories().len(), &self.device);
        let mut batches = Vec::new();
        match self.batches_of(step) {
            Ok(loaded) => {
                for (k, batch) in loaded.into_iter().enumerate() {
                    report
                        .images
                        .extend(batch.info.iter().map(|info| self.recorded(info.image_id, info.index, Some(k))));
                    report.replaced.extend(
                        batch.skipped.iter().map(|skipped| ReplacedImage {
                            image_id: skipped.image_id,
                            reason: skipped.reason.clone(),
                        }),
                    );
                    batches.push(RecordedBatch::from(batch));
                }
            }
            Err(reason) => {
                let index = |id: &i64| self.sets.train.records().iter().position(|record| record.image_id == *id);
                let known = step.images.iter().filter_map(|id| Some(self.recorded(*id, index(id)?, None)));
                report.images = known.collect();
                report.missing_batch = Some(reason);
            }
        }
        let weights = named_tensors(self.session.learner.model());
        BlackBox { report, config: self.config.clone(), weights, batches }
    }

    fn recorded(&self, image_id: i64, index: usize, batch: Option<usize>) -> RecordedImage {
        let file = self.sets.train.path(index).map(|path| path.display().to_string());
        RecordedImage { image_id, index, file, batch }
    }

    /// Loads the batches of a step again, with the classes of their targets mapped to the network's class channels.
    ///
    /// # Errors
    /// Why they are not the batches of the step, for example because a file is gone.
    fn batches_of(&self, step: &Step) -> Result<Vec<Batch>, String> {
        let loaded = self.batches(step.epoch, step.first_batch).take(self.config.train.accumulate);
        let mut batches = loaded.collect::<Result<Vec<Batch>, _>>().map_err(|e| e.to_string())?;
        batches.retain(|batch| !batch.info.is_empty());
        let found: Vec<i64> = batches.iter().flat_map(|batch| batch.info.iter().map(|info| info.image_id)).collect();
        if found != step.images {
            return Err(format!("expected the images with the ids {:?}, found {found:?}", step.images));
        }
        if let Some(channels) = &self.session.meta.model.class_channels {
            batches.iter_mut().for_each(|batch| channels.retarget(&mut batch.targets));
        }
        Ok(batches)
    }
}
