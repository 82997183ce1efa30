//! What each step said of itself, kept on the device until a line of the log is due.

use std::time::Instant;

use burn::tensor::Tensor;
use foveal_criterion::{BatchBreakdown, BreakdownRecord, LossBreakdown};

use crate::error::TrainError;
use crate::log::StepRecord;

/// Values of a step, in the order of [`StepValues`].
const VALUES: usize = 6;

/// A step's losses and gradient norm.
#[derive(Clone, Debug)]
pub(crate) enum StepValues {
    /// Read already.
    Read([f32; VALUES]),
    /// `[6]`: class, box and total loss, the class loss of positives and of the rest, gradient norm.
    OnDevice(Box<Tensor<1>>),
}

/// Where a step's class loss came from.
#[derive(Clone, Debug)]
pub(crate) enum StepBreakdown {
    /// Read already.
    Read(Box<LossBreakdown>),
    /// Still on the device.
    OnDevice(Box<BatchBreakdown>),
}

impl StepBreakdown {
    /// Waits for the device, unless it was read before.
    pub(crate) fn read(&self) -> LossBreakdown {
        match self {
            Self::Read(breakdown) => LossBreakdown::clone(breakdown),
            Self::OnDevice(batch) => {
                let values = batch.values.clone().into_data().convert::<f32>();
                let values: Vec<f32> = values.try_to_vec().expect("sums are readable as f32");
                LossBreakdown::read(batch.counts.clone(), &values)
            }
        }
    }
}

/// One optimizer step.
#[derive(Debug)]
pub(crate) struct Step {
    pub step: u64,
    pub epoch: usize,
    pub lr: f64,
    pub positives: usize,
    pub images: Vec<i64>,
    pub values: StepValues,
    /// Of the steps that it was made for.
    pub class: Option<StepBreakdown>,
}

/// Steps since the last line.
#[derive(Debug)]
pub(crate) struct StepLog {
    every: usize,
    steps: Vec<Step>,
    since: Instant,
    waited: f64,
    total: f64,
    counted: usize,
    class: Option<LossBreakdown>,
}

impl StepLog {
    pub(crate) fn new(every: usize) -> Self {
        Self { every, steps: Vec::new(), since: Instant::now(), waited: 0.0, total: 0.0, counted: 0, class: None }
    }

    /// An epoch begins: its mean and its clock start anew.
    pub(crate) fn start_epoch(&mut self) {
        (self.total, self.counted, self.waited, self.since) = (0.0, 0, 0.0, Instant::now());
        self.class = None;
    }

    pub(crate) fn waited(&mut self, seconds: f64) {
        self.waited += seconds;
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Whether the next step ends a line.
    pub(crate) fn will_be_due(&self) -> bool {
        self.steps.len() + 1 >= self.every
    }

    /// Where the class loss of the epoch came from, over the steps that it was made for.
    pub(crate) fn epoch_record(&self) -> Option<BreakdownRecord> {
        self.class.as_ref().map(LossBreakdown::record_with_bins)
    }

    pub(crate) fn is_due(&self) -> bool {
        self.steps.len() >= self.every
    }

    /// Mean total loss of the epoch's steps that were read.
    pub(crate) fn epoch_mean(&self) -> f64 {
        self.total / self.counted.max(1) as f64
    }

    /// Reads all steps since the last line: the device is waited for. `None` when there were none.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] with the first step that was not finite.
    pub(crate) fn read(&mut self) -> Result<Option<StepRecord>, TrainError> {
        let steps = std::mem::take(&mut self.steps);
        let Some(last) = steps.last() else { return Ok(None) };
        let mut sums = [0.0; VALUES];
        for (step, values) in steps.iter().zip(values_of(&steps)) {
            check(step, &values)?;
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += f64::from(value);
            }
        }
        let class = steps.iter().filter_map(|step| step.class.as_ref().map(StepBreakdown::read)).reduce(sum);
        self.class = match (self.class.take(), &class) {
            (Some(before), Some(class)) => Some(sum(before, class.clone())),
            (before, class) => before.or_else(|| class.clone()),
        };
        let count = steps.len() as f64;
        self.total += sums[2];
        self.counted += steps.len();
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
            breakdown: class.as_ref().map(LossBreakdown::record),
        };
        (self.since, self.waited) = (Instant::now(), 0.0);
        Ok(Some(record))
    }
}

fn sum(mut a: LossBreakdown, b: LossBreakdown) -> LossBreakdown {
    a.add(&b);
    a
}

/// The values of steps, all of which were read before or none. Waits for the device once.
fn values_of(steps: &[Step]) -> Vec<[f32; VALUES]> {
    let tensors: Vec<Tensor<1>> = steps
        .iter()
        .filter_map(|step| match &step.values {
            StepValues::OnDevice(tensor) => Some(Tensor::clone(tensor)),
            StepValues::Read(_) => None,
        })
        .collect();
    if tensors.len() < steps.len() {
        let read = |step: &Step| if let StepValues::Read(values) = step.values { Some(values) } else { None };
        return steps.iter().filter_map(read).collect();
    }
    let all = Tensor::cat(tensors, 0).into_data().convert::<f32>();
    let all: Vec<f32> = all.try_to_vec().expect("losses are readable as f32");
    all.as_chunks::<VALUES>().0.to_vec()
}

impl Step {
    /// That losses and gradients are finite, where they have been read.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] otherwise.
    pub(crate) fn check_if_read(&self) -> Result<(), TrainError> {
        match &self.values {
            StepValues::Read(values) => check(self, values),
            StepValues::OnDevice(_) => Ok(()),
        }
    }
}

fn check(step: &Step, values: &[f32; VALUES]) -> Result<(), TrainError> {
    let [class, boxes, total, _, _, grad_norm] = *values;
    if total.is_finite() && grad_norm.is_finite() {
        return Ok(());
    }
    Err(TrainError::NonFinite { step: step.step, class, boxes, grad_norm, lr: step.lr, images: step.images.clone() })
}
