//! The part of the training loop that knows the device: what fits on it, its first step, and its failures.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use burn::tensor::Device;
use foveal_backbone::BackboneNorm;
use foveal_data::{Batch, epoch_len};
use foveal_weights::named_tensors;

use super::recover::AfterStep;
use super::{Outcome, Trainer};
use crate::config::RunConfig;
use crate::error::{Phase, SavedState, TrainError};
use crate::fault::{DeviceFault, FaultKind, message};
use crate::memory::{Demand, DeviceLimits, bytes_text, largest_input};
use crate::session::Session;
use crate::sets::Sets;

/// Part of the memory that a batch may take that is proposed after a failure.
const PROPOSED_SHARE: f64 = 0.7;

/// Compares the largest batches of the training and of the evaluation with the limits of the device.
///
/// # Errors
/// [`TrainError::DoesNotFit`] when one is too large.
pub(super) fn fits_on_device(
    config: &RunConfig,
    sets: &Sets,
    session: &Session,
    device: &Device,
) -> Result<(), TrainError> {
    let limits = DeviceLimits::of(device);
    if limits.is_empty() {
        return Ok(());
    }
    let (batch, images) = (config.train.batch_size, epoch_len(&sets.train, &config.data));
    training_demand(config, sets, session).check_of_set("train.batch_size", batch, images, limits)?;
    let (batch, images) = (config.eval.batch_size, sets.val.len());
    Ok(evaluation_demand(config, sets, session).check_of_set("eval.batch_size", batch, images, limits)?)
}

/// The demand of the largest training batch. It touches no tensor of the device, which may have failed.
fn training_demand(config: &RunConfig, sets: &Sets, session: &Session) -> Demand {
    let batch = config.train.batch_size.min(epoch_len(&sets.train, &config.data));
    let size = largest_input(sets.train.records(), &config.data, config.train.augments(), batch);
    Demand::of_training(&config.train, &session.meta.model, sets.categories().len(), size)
}

/// The demand of the largest batch of an evaluation. It touches no tensor of the device.
fn evaluation_demand(config: &RunConfig, sets: &Sets, session: &Session) -> Demand {
    let batch = config.eval.batch_size.min(sets.val.len());
    let size = largest_input(sets.val.records(), &config.data, false, batch);
    Demand::of_inference(&session.meta.model, sets.categories().len(), size, config.train.precision)
}

impl Trainer<'_> {
    /// Runs the training. A panic that a failure of the device caused becomes an error; all others go on.
    pub(super) fn run_on_device(&mut self) -> Result<Outcome, TrainError> {
        match catch_unwind(AssertUnwindSafe(|| self.run())) {
            Ok(outcome) => outcome,
            Err(payload) => {
                let reported = self.progress.device_report();
                match DeviceFault::cause(message(&*payload), reported.as_deref()) {
                    Some(fault) => Err(self.failed(fault)),
                    None => resume_unwind(payload),
                }
            }
        }
    }

    /// One optimizer step over `batches`. The first one on a GPU is announced, because its kernels are tuned, and its
    /// results are read, so that a batch that is too large is found here.
    pub(super) fn step(&mut self, epoch: usize, batches: Vec<Batch>) -> Result<AfterStep, TrainError> {
        self.phase = Phase::Step(self.session.meta.step + 1);
        if self.tuned {
            return self.update(epoch, batches);
        }
        self.tuned = true;
        let started = Instant::now();
        self.progress.tuning_start();
        let done = self.update(epoch, batches).and_then(|after| self.read_first_step().map(|()| after));
        self.progress.tuning_end(started.elapsed().as_secs_f64());
        done
    }

    /// Waits for the device, once in a run, and reads the losses of the first step and the updated weights: a wait
    /// alone reports that the device is lost, but work that failed only by a read of what it should have written.
    fn read_first_step(&mut self) -> Result<(), TrainError> {
        self.device.sync().map_err(|error| self.failed(DeviceFault::of_device(&error.to_string())))?;
        self.step_log.wait();
        let _ = named_tensors(self.session.learner.model());
        Ok(())
    }

    /// The error of a failure of the device.
    fn failed(&self, fault: DeviceFault) -> TrainError {
        let DeviceFault { kind, text: found } = fault;
        let (phase, state) = (self.phase, self.saved_state());
        match kind {
            FaultKind::OutOfMemory => {
                let (demand, advice) = self.memory_advice();
                TrainError::OutOfMemory { phase, found, demand, advice, state: state.filter(|state| state.step > 0) }
            }
            FaultKind::Lost | FaultKind::Other => {
                TrainError::Device { lost: kind == FaultKind::Lost, phase, found, state }
            }
        }
    }

    /// What the largest batch of the phase is expected to need, and a batch that should fit.
    fn memory_advice(&self) -> (String, String) {
        let (config, sets, session) = (&self.config, &self.sets, &self.session);
        let (key, batch, images, demand) = match self.phase {
            Phase::Step(_) => {
                let images = epoch_len(&sets.train, &config.data);
                ("train.batch_size", config.train.batch_size, images, training_demand(config, sets, session))
            }
            Phase::Evaluation(_) => {
                ("eval.batch_size", config.eval.batch_size, sets.val.len(), evaluation_demand(config, sets, session))
            }
        };
        let batch = batch.min(images);
        let limits = DeviceLimits::of(&self.device);
        let has = match limits.memory_bytes {
            Some(bytes) => format!("the device has {}", bytes_text(bytes)),
            None => "the driver does not state how much the device has".to_owned(),
        };
        let images = if batch == 1 { "1 image".to_owned() } else { format!("{batch} images") };
        let needs = format!(
            "A batch of {images} ({key}) is expected to need at least {}; {has}, and other programs may use part of it",
            bytes_text(demand.memory(batch))
        );
        let room = limits.memory_bytes.map(|bytes| (PROPOSED_SHARE * bytes as f64) as u64);
        let by_count = demand.most(DeviceLimits { memory_bytes: room, ..limits }, 1.0).unwrap_or(batch);
        // The count has just proved too low for this batch.
        let smaller = by_count.min(batch / 2);
        let advice = match smaller {
            0 => "Lower data.min_size and data.max_size (or data.fixed_size)".to_owned(),
            most => format!("Try {key} = {most}, which should fit"),
        };
        (needs, advice + &self.advice_for_training(smaller))
    }

    /// What else makes a training step smaller, if one has failed.
    fn advice_for_training(&self, smaller: usize) -> String {
        let mut advice = String::new();
        if let Phase::Evaluation(_) = self.phase {
            return advice;
        }
        if smaller > 0 {
            advice += ", and raise train.accumulate to keep the size of an update";
        }
        // A configuration with trained batch norms refuses checkpointing.
        if !self.config.train.activation_checkpointing && self.config.model.norm != BackboneNorm::Batch {
            advice += ", or train.activation_checkpointing = true";
        }
        advice
    }

    /// The newest training state that is on disk.
    fn saved_state(&self) -> Option<Box<SavedState>> {
        let path = [self.run.state(), self.run.previous_state()].into_iter().find(|path| path.is_file())?;
        let age = path.metadata().and_then(|known| known.modified()).ok()?.elapsed().unwrap_or_default();
        let run = self.run.root().to_owned();
        Some(Box::new(SavedState { path, run, step: self.saved_step, seconds: age.as_secs() }))
    }
}

#[cfg(test)]
mod tests;
