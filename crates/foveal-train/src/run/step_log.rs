//! The steps since the last line of the log. Their losses stay on the device until the line is due.

use std::time::Instant;

use burn::tensor::Tensor;
use foveal_criterion::{BatchBreakdown, BreakdownRecord, LossBreakdown};

use super::StepRecord;
use crate::error::TrainError;

/// Values of a step: those of `Gradients::values`.
const VALUES: usize = 6;

/// One optimizer step.
#[derive(Debug)]
pub(crate) struct Step {
    /// Number of the step, from 1.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Positive anchors.
    pub positives: usize,
    /// COCO ids of the images.
    pub images: Vec<i64>,
    /// `[6]`: class, box and total loss, the class loss of positives and of all else, the gradients' norm.
    pub values: Tensor<1>,
    /// Where the class loss came from, for the steps that it was asked for.
    pub breakdown: Option<BatchBreakdown>,
}

impl Step {
    /// Waits for the device and checks that losses and gradients are finite.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] otherwise.
    pub(crate) fn check_finite(&self) -> Result<(), TrainError> {
        check_finite(self, &read(self.values.clone()))
    }
}

/// Mean losses of an epoch's steps, and the learning rate of the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct EpochMeans {
    pub class_loss: f64,
    pub box_loss: f64,
    pub loss: f64,
    pub lr: f64,
}

/// Steps since the last line, and sums over the epoch.
#[derive(Debug)]
pub(crate) struct StepLog {
    /// Steps of a line.
    every: usize,
    steps: Vec<Step>,
    /// The start of the line.
    since: Instant,
    /// Seconds of the line that were spent waiting for images.
    waited: f64,
    /// Class, box and total loss of the epoch's steps that were read.
    sums: [f64; 3],
    /// Steps of the epoch that were read.
    count: usize,
    /// Learning rate of the last of them.
    lr: f64,
    breakdown: Option<LossBreakdown>,
}

impl StepLog {
    pub(crate) fn new(every: usize) -> Self {
        let (steps, since) = (Vec::new(), Instant::now());
        Self { every, steps, since, waited: 0.0, sums: [0.0; 3], count: 0, lr: 0.0, breakdown: None }
    }

    /// An epoch begins: its means and its clock start anew.
    pub(crate) fn start_epoch(&mut self) {
        *self = Self::new(self.every);
    }

    /// Adds time that was spent waiting for images.
    pub(crate) fn waited(&mut self, seconds: f64) {
        self.waited += seconds;
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Whether the step that comes next ends a line.
    pub(crate) fn will_be_due(&self) -> bool {
        self.steps.len() + 1 >= self.every
    }

    pub(crate) fn is_due(&self) -> bool {
        self.steps.len() >= self.every
    }

    /// Where the class loss of the epoch came from, over the steps that have a breakdown.
    pub(crate) fn epoch_breakdown(&self) -> Option<BreakdownRecord> {
        self.breakdown.as_ref().map(LossBreakdown::record_with_bins)
    }

    /// Mean losses of the epoch's steps that were read, and the learning rate of the last.
    pub(crate) fn epoch_means(&self) -> EpochMeans {
        let [class_loss, box_loss, loss] = self.sums.map(|sum| sum / self.count.max(1) as f64);
        EpochMeans { class_loss, box_loss, loss, lr: self.lr }
    }

    /// Reads all steps since the last line, for which the device is waited for. `None` where there are none.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] with the first step that was not finite.
    pub(crate) fn read(&mut self) -> Result<Option<StepRecord>, TrainError> {
        let steps = std::mem::take(&mut self.steps);
        let Some(last) = steps.last() else { return Ok(None) };

        // One transfer for the values of all steps.
        let values = read(Tensor::cat(steps.iter().map(|step| step.values.clone()).collect(), 0));
        let mut sums = [0.0; VALUES];
        for (step, values) in steps.iter().zip(values.as_chunks::<VALUES>().0) {
            check_finite(step, values)?;
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let breakdowns = steps.iter().filter_map(|step| step.breakdown.as_ref().map(read_breakdown));
        let breakdown = breakdowns.reduce(added);

        // The epoch.
        self.breakdown = self.breakdown.take().into_iter().chain(breakdown.clone()).reduce(added);
        self.sums.iter_mut().zip(sums).for_each(|(sum, value)| *sum += value);
        self.count += steps.len();
        self.lr = last.lr;

        // The line.
        let count = steps.len() as f64;
        let [class_loss, box_loss, loss, positive_loss, negative_loss, grad_norm] = sums.map(|s| s / count);
        let seconds = self.since.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let images: usize = steps.iter().map(|s| s.images.len()).sum();
        let classes = positive_loss + negative_loss;
        let record = StepRecord {
            step: last.step,
            epoch: last.epoch,
            lr: last.lr,
            loss,
            class_loss,
            box_loss,
            positives: steps.iter().map(|s| s.positives).sum::<usize>() as f64 / count,
            positive_loss,
            negative_loss,
            positive_share: if classes > 0.0 { positive_loss / classes } else { 0.0 },
            grad_norm,
            images_per_second: images as f64 / seconds,
            data_wait: self.waited / seconds,
            breakdown: breakdown.as_ref().map(LossBreakdown::record),
        };
        (self.since, self.waited) = (Instant::now(), 0.0);
        Ok(Some(record))
    }
}

/// Where the class loss of a step came from. Waits for the device.
pub(crate) fn read_breakdown(batch: &BatchBreakdown) -> LossBreakdown {
    LossBreakdown::read(batch.counts.clone(), &read(batch.values.clone()))
}

fn added(mut a: LossBreakdown, b: LossBreakdown) -> LossBreakdown {
    a.add(&b);
    a
}

/// Waits for the device.
fn read(values: Tensor<1>) -> Vec<f32> {
    values.into_data().convert::<f32>().try_to_vec().expect("losses are readable as f32")
}

fn check_finite(step: &Step, values: &[f32]) -> Result<(), TrainError> {
    let &[class, boxes, total, _, _, grad_norm] = values else { unreachable!("six values of a step") };
    if total.is_finite() && grad_norm.is_finite() {
        return Ok(());
    }
    Err(TrainError::NonFinite { step: step.step, class, boxes, grad_norm, lr: step.lr, images: step.images.clone() })
}
