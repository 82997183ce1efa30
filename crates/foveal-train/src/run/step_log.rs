//! Collects optimizer steps for a line of `log.jsonl`. Their losses stay on the device until the line is written.

use std::time::Instant;

use burn::tensor::Tensor;
use foveal_criterion::{BatchBreakdown, BreakdownRecord, ClassRecord, LossBreakdown, Normalizer};
use foveal_data::ObjectCounts;

use super::position::{LogPosition, ReadStep, SkippedStep};
use super::records::{OverflowEvent, OverflowRecord, StepLine, StepRecord};
use super::scaling::LossScaling;
use crate::error::TrainError;

/// Number of values that the device holds for a step: the length of `Gradients::values`.
pub(super) const VALUES: usize = 6;
/// Index of the total loss in these values.
const TOTAL: usize = 2;

/// Number of class channels whose numbers a line of the log has on average at most, unless a setting says otherwise.
const CLASSES_OF_A_LINE: usize = 100;

/// An optimizer step whose losses may still be on the device.
#[derive(Debug)]
pub(crate) struct Step {
    /// Number of the step, counted from 1 over the whole run.
    pub step: u64,
    /// Number of the epoch, counted from 1.
    pub epoch: usize,
    /// Learning rate of the step.
    pub lr: f64,
    /// Number of positive anchors of all images of the step.
    pub positives: usize,
    /// Numbers of objects of all images of the step, with and without anchors.
    pub objects: ObjectCounts,
    /// COCO ids of the images of the step.
    pub images: Vec<i64>,
    /// Number of batches of the epoch before those of the step.
    pub first_batch: usize,
    /// The normalizer of the losses.
    pub normalizer: Normalizer,
    /// `[6]`: class loss, box loss, total loss, class loss of positives, class loss of all other pairs, gradient norm.
    pub values: Tensor<1>,
    /// `[1]`: the scale by which the loss was multiplied before the backward pass, with `train.precision = "f16"`.
    pub scale: Option<Tensor<1>>,
    /// Breakdown of the class loss, for the steps that compute it.
    pub breakdown: Option<BatchBreakdown>,
}

/// An optimizer step whose total loss or gradient norm is not finite.
#[derive(Debug)]
pub(crate) struct BadStep {
    /// The step.
    pub step: Step,
    /// Class loss, box loss, total loss, class loss of positives, class loss of all other pairs, gradient norm.
    pub values: [f32; VALUES],
    /// The loss scale of the step, with `train.precision = "f16"`.
    pub scale: Option<f64>,
}

impl BadStep {
    /// The error that names the step.
    pub(crate) fn error(&self) -> TrainError {
        let (step, [class, boxes, _, _, _, grad_norm]) = (&self.step, self.values);
        TrainError::NonFinite { step: step.step, class, boxes, grad_norm, lr: step.lr, images: step.images.clone() }
    }
}

/// Whether the total loss and the gradient norm of a step are finite.
fn is_sound(&[_, _, total, _, _, grad_norm]: &[f32; VALUES]) -> bool {
    total.is_finite() && grad_norm.is_finite()
}

/// Mean losses over the steps of an epoch, and the learning rate of its last step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct EpochMeans {
    /// Mean class loss, divided by the normalizer.
    pub class_loss: f64,
    /// Mean box loss, divided by the normalizer, before it is multiplied by `loss.box_weight`.
    pub box_loss: f64,
    /// Mean total loss: `class_loss + loss.box_weight * box_loss`.
    pub loss: f64,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
}

/// The steps since the last line of the log, and sums over the steps of the epoch.
#[derive(Debug)]
pub(crate) struct StepLog {
    /// Number of steps that a line of the log covers.
    every: usize,
    /// Steps whose losses are still on the device.
    pending: Vec<Step>,
    /// The steps and sums that were read.
    read: LogPosition,
    /// When the first step of the line began, or when the run was resumed after that.
    since: Instant,
    /// Seconds spent waiting for images since then.
    waited: f64,
    /// Seconds spent waiting for images in the epoch, or since the run was resumed in it.
    epoch_waited: f64,
    /// The step that ended the run, because its loss or gradient norm is not finite.
    bad: Option<BadStep>,
    /// The loss scale of the last step that was read, and how many were left out; `None` without a loss scale.
    scaling: Option<LossScaling>,
    /// Number of steps after which a line has the numbers of each class (`train.log_classes_every`); 0 and 1 stand for
    /// every line.
    classes_every: u64,
}

impl StepLog {
    /// A log whose lines cover `every` steps. With `scaling`, steps that are not finite are counted there and left out;
    /// without, the first such step ends the run.
    pub(crate) fn new(every: usize, scaling: Option<LossScaling>) -> Self {
        let (pending, read) = (Vec::new(), LogPosition::default());
        let (since, waited, epoch_waited) = (Instant::now(), 0.0, 0.0);
        Self { every, pending, read, since, waited, epoch_waited, bad: None, scaling, classes_every: 0 }
    }

    /// The same log with the numbers of each class only in the lines of every `steps`th step. With 0 they are in every
    /// line if there are at most 100 class channels, else in so many that a line has 100 channels on average.
    pub(crate) fn with_classes_every(self, steps: usize, channels: usize) -> Self {
        let steps = match channels.div_ceil(CLASSES_OF_A_LINE) {
            _ if steps > 0 => steps,
            0 | 1 => 0,
            lines => lines * self.every,
        };
        Self { classes_every: steps as u64, ..self }
    }

    /// The loss scale of the last step that was read, and how many steps were left out; `None` without a loss scale.
    pub(crate) fn scaling(&self) -> Option<LossScaling> {
        self.scaling
    }

    /// Begins an epoch: clears steps and sums and restarts the clock. An epoch that is continued in its middle begins
    /// with the steps and sums of `position`.
    pub(crate) fn start_epoch(&mut self, position: Option<LogPosition>) {
        let (read, classes_every) = (position.unwrap_or_default(), self.classes_every);
        *self = Self { read, classes_every, ..Self::new(self.every, self.scaling) };
    }

    /// Waits for the device, reads the losses of all steps, and returns what a training state stores.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] with the first step whose loss or gradient norm is not finite.
    pub(crate) fn position(&mut self) -> Result<LogPosition, TrainError> {
        self.fetch()?;
        Ok(self.read.clone())
    }

    /// Adds time in seconds that was spent waiting for images.
    pub(crate) fn add_waiting_time(&mut self, seconds: f64) {
        self.waited += seconds;
        self.epoch_waited += seconds;
    }

    /// Seconds spent waiting for images in the epoch, or since the run was resumed in it.
    pub(crate) fn epoch_waited(&self) -> f64 {
        self.epoch_waited
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.pending.push(step);
    }

    /// The last step that was added.
    ///
    /// # Panics
    /// When it was read already.
    pub(crate) fn last(&self) -> &Step {
        self.pending.last().expect("a step was added")
    }

    /// Waits for the device and takes the last step out of the log if its loss or gradient norm is not finite.
    pub(crate) fn take_bad_last(&mut self) -> Option<BadStep> {
        let step = self.pending.pop()?;
        let values = read(step.values.clone());
        let values = *values.first_chunk::<VALUES>().expect("six values of a step");
        if is_sound(&values) {
            self.pending.push(step);
            return None;
        }
        Some(BadStep { step, values, scale: None })
    }

    /// Waits for the device by reading the values of the last step that was added, unless they were read.
    pub(crate) fn wait(&self) {
        if let Some(step) = self.pending.last() {
            read(step.values.clone());
        }
    }

    /// Waits for the device and returns whether the total loss of the last step that was added is finite.
    ///
    /// # Panics
    /// When the step was read already.
    pub(crate) fn is_last_loss_finite(&self) -> bool {
        read(self.last().values.clone())[TOTAL].is_finite()
    }

    /// Keeps a step that ends the run.
    pub(crate) fn keep_bad(&mut self, bad: BadStep) {
        self.bad = Some(bad);
    }

    /// Takes the step that ended the run, because its loss or gradient norm is not finite.
    pub(crate) fn take_bad(&mut self) -> Option<BadStep> {
        self.bad.take()
    }

    /// Whether the next step completes a line.
    pub(crate) fn will_be_due(&self) -> bool {
        self.unwritten() + 1 >= self.every
    }

    pub(crate) fn is_due(&self) -> bool {
        self.unwritten() >= self.every
    }

    /// Whether the losses of all steps were read from the device.
    pub(crate) fn is_all_read(&self) -> bool {
        self.pending.is_empty()
    }

    /// Number of steps that are in no line of the log yet.
    fn unwritten(&self) -> usize {
        self.read.unwritten() + self.pending.len()
    }

    /// Breakdown of the class loss over the steps of the epoch that have one.
    pub(crate) fn epoch_breakdown(&self) -> Option<BreakdownRecord> {
        self.read.breakdown.as_ref().map(LossBreakdown::record_with_bins)
    }

    /// Numbers of objects of the epoch's steps that are in lines of the log, without those that were left out.
    pub(crate) fn epoch_objects(&self) -> ObjectCounts {
        self.read.objects
    }

    /// Number of steps of the epoch that are in lines of the log and were left out; `None` without a loss scale.
    pub(crate) fn epoch_skipped(&self) -> Option<usize> {
        self.scaling.map(|_| self.read.skipped_count)
    }

    /// Mean losses over the steps of the epoch that are in lines of the log, and the learning rate of the last one. The
    /// losses are NaN if all steps were left out.
    pub(crate) fn epoch_means(&self) -> EpochMeans {
        let count = if self.read.skipped_count > 0 { self.read.count } else { self.read.count.max(1) };
        let [class_loss, box_loss, loss] = self.read.sums.map(|sum| sum / count as f64);
        EpochMeans { class_loss, box_loss, loss, lr: self.read.lr }
    }

    /// Waits for the device and reads the losses of all steps that are still on it, in one transfer.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] with the first step whose loss or gradient norm is not finite, or with a loss scale
    /// [`TrainError::Overflow`] with the last of too many such steps in a row. [`StepLog::take_bad`] then returns the
    /// step.
    fn fetch(&mut self) -> Result<(), TrainError> {
        let mut pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let fetched = fetch(&pending);
        let Some(scaling) = &mut self.scaling else {
            if let Some(index) = fetched.iter().position(|fetched| !is_sound(&fetched.values)) {
                let bad = BadStep { step: pending.swap_remove(index), values: fetched[index].values, scale: None };
                let error = bad.error();
                self.keep_bad(bad);
                return Err(error);
            }
            self.read.steps.extend(pending.iter().zip(&fetched).map(|(step, fetched)| fetched.of(step)));
            return Ok(());
        };
        for (step, fetched) in pending.iter().zip(&fetched) {
            let sound = is_sound(&fetched.values);
            if let Some(scale) = fetched.scale {
                scaling.count(f64::from(scale), sound);
            }
            if sound {
                self.read.steps.push(fetched.of(step));
            } else {
                let &Step { step, epoch, lr, ref images, .. } = step;
                self.read.skipped.push(SkippedStep { step, epoch, lr, images: images.len() });
            }
        }
        // The last step, not the first beyond the limit: no update has changed the weights since its forward pass.
        let (Some(last), Some(fetched)) = (pending.pop(), fetched.last()) else { return Ok(()) };
        scaling.check(last.step).inspect_err(|_| {
            self.bad = Some(BadStep { step: last, values: fetched.values, scale: Some(scaling.scale) });
        })
    }

    /// Waits for the device, reads the losses of all steps since the last line and makes a line of them. `None` if
    /// there are no such steps.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] with the first step whose loss or gradient norm is not finite;
    /// [`TrainError::Overflow`] with the last of too many such steps in a row.
    pub(crate) fn read(&mut self) -> Result<Option<StepLine>, TrainError> {
        self.fetch()?;
        let (steps, skipped) = (std::mem::take(&mut self.read.steps), std::mem::take(&mut self.read.skipped));
        let ends = [steps.last().map(|s| (s.step, s.epoch, s.lr)), skipped.last().map(|s| (s.step, s.epoch, s.lr))];
        let Some((step, epoch, lr)) = ends.into_iter().flatten().max_by_key(|(step, ..)| *step) else {
            return Ok(None);
        };
        let mut sums = [0.0; VALUES];
        for step in &steps {
            sums.iter_mut().zip(step.values).for_each(|(sum, value)| *sum += f64::from(value));
        }
        let breakdown = steps.iter().filter_map(|step| step.breakdown.clone()).reduce(merged);
        let first = steps.iter().map(|s| s.step).chain(skipped.iter().map(|s| s.step)).min().unwrap_or(step);
        let with_classes = self.classes_every < 2 || step / self.classes_every > (first - 1) / self.classes_every;
        self.add_to_epoch(&sums, breakdown.clone(), [steps.len(), skipped.len()], lr);
        self.read.objects += steps.iter().map(|step| step.objects).sum();

        // Make the line.
        let seconds = self.since.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let waited = self.waited;
        (self.since, self.waited) = (Instant::now(), 0.0);
        if let (Some(scaling), []) = (self.scaling, &steps[..]) {
            let (event, skipped_steps) = (OverflowEvent::Overflow, skipped.len());
            let loss_scale = scaling.scale;
            return Ok(Some(StepLine::Overflow(OverflowRecord { event, step, epoch, loss_scale, skipped_steps })));
        }
        let count = steps.len() as f64;
        let [class_loss, box_loss, loss, positive_loss, negative_loss, grad_norm] = sums.map(|s| s / count);
        let images = steps.iter().map(|s| s.images).chain(skipped.iter().map(|s| s.images)).sum::<usize>();
        let classes = positive_loss + negative_loss;
        Ok(Some(StepLine::Means(Box::new(StepRecord {
            step,
            epoch,
            lr,
            loss,
            class_loss,
            box_loss,
            positives: steps.iter().map(|s| s.positives).sum::<usize>() as f64 / count,
            positive_loss,
            negative_loss,
            positive_share: if classes > 0.0 { positive_loss / classes } else { 0.0 },
            grad_norm,
            images_per_second: images as f64 / seconds,
            data_wait: waited / seconds,
            breakdown: breakdown.as_ref().map(|breakdown| {
                let mut record = breakdown.record();
                if !with_classes {
                    record.classes = ClassRecord::default();
                }
                record
            }),
            loss_scale: self.scaling.map(|scaling| scaling.scale),
            skipped_steps: self.scaling.map(|_| skipped.len()),
        }))))
    }

    /// Adds the steps of a line to the sums of the epoch. `counts` are the numbers of steps that are in the sums of the
    /// line, and of those that were left out.
    fn add_to_epoch(&mut self, sums: &[f64; VALUES], breakdown: Option<LossBreakdown>, counts: [usize; 2], lr: f64) {
        let epoch = &mut self.read;
        epoch.breakdown = epoch.breakdown.take().into_iter().chain(breakdown).reduce(merged);
        epoch.sums.iter_mut().zip(sums).for_each(|(sum, value)| *sum += value);
        epoch.count += counts[0];
        epoch.skipped_count += counts[1];
        epoch.lr = lr;
    }
}

/// The numbers of a step that were on the device.
pub(crate) struct Fetched {
    /// The values of [`Step::values`].
    pub(crate) values: [f32; VALUES],
    /// The loss scale, if there is one.
    scale: Option<f32>,
    /// The values of [`BatchBreakdown::values`]; empty without a breakdown.
    breakdown: Vec<f32>,
}

impl Fetched {
    /// The step that these numbers are of.
    fn of(&self, step: &Step) -> ReadStep {
        let breakdown = step.breakdown.as_ref().map(|batch| LossBreakdown::read(batch.counts.clone(), &self.breakdown));
        ReadStep::new(step, self.values, breakdown)
    }
}

/// Waits for the device and reads the numbers of steps in one transfer.
pub(crate) fn fetch(steps: &[Step]) -> Vec<Fetched> {
    let values = steps.iter().map(|step| &step.values);
    let scales = steps.iter().filter_map(|step| step.scale.as_ref());
    let breakdowns = steps.iter().filter_map(|step| step.breakdown.as_ref()).map(|batch| &batch.values);
    let numbers = read(Tensor::cat(values.chain(scales).chain(breakdowns).cloned().collect(), 0));
    let (values, rest) = numbers.split_at(steps.len() * VALUES);
    let mut rest = rest.iter().copied();
    let scales: Vec<Option<f32>> = steps.iter().map(|step| step.scale.as_ref().and_then(|_| rest.next())).collect();
    let breakdown = |step: &Step| step.breakdown.as_ref().map_or(0, |batch| batch.values.dims()[0]);
    let numbers = steps.iter().zip(values.as_chunks::<VALUES>().0).zip(scales);
    numbers
        .map(|((step, values), scale)| {
            let breakdown = rest.by_ref().take(breakdown(step)).collect();
            Fetched { values: *values, scale, breakdown }
        })
        .collect()
}

/// Waits for the device and reads the breakdown of the class loss of a step.
pub(crate) fn read_breakdown(batch: &BatchBreakdown) -> LossBreakdown {
    LossBreakdown::read(batch.counts.clone(), &read(batch.values.clone()))
}

fn merged(mut a: LossBreakdown, b: LossBreakdown) -> LossBreakdown {
    a.add(&b);
    a
}

/// Waits for the device and copies values to the host.
pub(crate) fn read(values: Tensor<1>) -> Vec<f32> {
    #[cfg(test)]
    tests::READS.with(|reads| reads.set(reads.get() + 1));
    values.into_data().convert::<f32>().try_to_vec().expect("losses are readable as f32")
}

#[cfg(test)]
pub(crate) mod tests;
