//! Benchmarks (`foveal bench`): time of training steps, inference and losses on seeded random data, and speed of
//! loading a data set.

mod blocks;
mod clock;
mod feed;
mod inputs;
mod loading;

use burn::tensor::Device;
use foveal_data::TransformCosts;
use foveal_detector::Checkpoint;
use serde::Serialize;

use crate::config::RunConfig;
use crate::error::TrainError;
use crate::memory::{Demand, DeviceLimits, DoesNotFit};
use crate::train::check_precision;
use clock::{Timed, peak_rss_mb};
use inputs::Inputs;

/// The phases that [`bench`](bench()) measures: training steps, inference, losses or data loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BenchPhases {
    /// All phases that need no data set, one after the other: `Train`, `Infer`, `Loss` and `Focal`.
    #[default]
    All,
    /// Training steps: forward pass, losses, backward pass and optimizer update.
    Train,
    /// Inference: forward pass and post-processing to detections.
    Infer,
    /// Class loss and box loss on random logits and deltas, forward and backward.
    Loss,
    /// Class loss alone on random logits, forward and backward.
    Focal,
    /// Loading batches of the training set of the configuration.
    Data,
}

/// The results of a benchmark. Times are in milliseconds. On a CPU there is one for each repetition after the warm-up
/// (`bench.warmup`). On a GPU there is one for each turn, except for inference, which has one for each repetition: a turn
/// is as many repetitions as training runs between two lines of the log, and its time is the mean of its repetitions.
/// Phases that were not measured have empty lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BenchReport {
    /// Name of the device. [`bench`](bench()) leaves it empty, and the program fills it in.
    pub device: String,
    /// Number of CPU threads. [`bench`](bench()) leaves it 0, and the program fills it in.
    pub threads: usize,
    /// Number of images in a step; with [`BenchPhases::Data`] in a batch of the training set.
    pub batch: usize,
    /// Height of the random images in pixels.
    pub height: usize,
    /// Width of the random images in pixels.
    pub width: usize,
    /// Times of training steps in milliseconds: forward pass, losses, backward pass, gradient norm and optimizer update;
    /// on a GPU also the copy of the images, and the reading of the losses at the end of a turn.
    pub train_step_ms: Vec<f64>,
    /// Times of inference on a batch in milliseconds: forward pass and post-processing; on a GPU also the copy of the
    /// images.
    pub infer_ms: Vec<f64>,
    /// Times of class loss and box loss with their gradients in milliseconds.
    pub loss_ms: Vec<f64>,
    /// Largest resident memory of the process up to the end of the training steps, in MiB. -1 where training was not
    /// measured or the operating system does not report it (only Linux does).
    pub peak_rss_mb: f64,
    /// Times of the class loss alone with its gradient in milliseconds.
    pub focal_ms: Vec<f64>,
    /// Speed of the loading workers in images per second, one number for each pass over the training set.
    pub data_images_per_second: Vec<f64>,
    /// What each transform of `data.augment.transforms` cost in these passes, in the order of the list.
    pub transforms: TransformCosts,
    /// Name of the GPU; empty on a CPU. [`bench`](bench()) leaves it empty, and the program fills it in.
    pub adapter: String,
    /// Name and version of the GPU's driver; empty on a CPU. [`bench`](bench()) leaves it empty, and the program fills
    /// it in.
    pub driver: String,
    /// The language that kernels are compiled to on the GPU (`SPIR-V`, `WGSL`); empty on a CPU. [`bench`](bench()) leaves
    /// it empty, and the program fills it in.
    pub compiler: String,
    /// Number type of the convolutions, such as `f32`. Empty where no phase ran on a device.
    pub precision: String,
    /// Seconds of the first repetition of the first phase that was measured, in which a GPU compiles and tunes its
    /// kernels. -1 where no phase ran on a device.
    pub first_step_seconds: f64,
    /// Number of repetitions between two waits for the device: 1 on a CPU.
    pub turn_steps: usize,
    /// Largest memory in MiB that the allocator of the GPU held after the warm-up or a turn of a phase, with the pages
    /// that it keeps for reuse. -1 where it is not known, as on a CPU.
    pub peak_device_mb: f64,
    /// Class loss, box loss, total loss, class loss of positives, class loss of all other pairs, and gradient norm of the
    /// first training step. Empty where training was not measured.
    pub first_step_values: Vec<f32>,
    /// Number of detections in the batch of the last inference.
    pub detections: usize,
    /// Number of tensor operations of a training step on a GPU that completes no line of the log; -1 where they were not
    /// counted.
    pub operations_per_step: i64,
    /// Number of fused kernels and of operations that ran on their own in such a step; -1 where they were not counted.
    pub blocks_per_step: i64,
}

impl BenchReport {
    /// Takes over the first repetition and the memory of a phase, and returns its times.
    fn keep(&mut self, timed: Timed) -> Vec<f64> {
        if self.first_step_seconds < 0.0 {
            self.first_step_seconds = timed.first_seconds;
        }
        self.peak_device_mb = self.peak_device_mb.max(timed.device_mb);
        timed.ms
    }
}

/// Measures the time of the given phases on random images and boxes, which are the same in every run.
///
/// The sizes and the number of steps are those of `[bench]` in the configuration. Inference uses the network and the
/// thresholds of `detector` if it is given, and otherwise a network with seeded random weights. With `count`, the
/// operations and fused kernels of one more training step are counted on a GPU, while nothing else may use one in this
/// process.
///
/// # Errors
/// [`TrainError::Config`] for an invalid configuration or a precision that the device does not support,
/// [`TrainError::DoesNotFit`] when the batch is too large for the device, [`TrainError::Model`] when `model.weights`
/// cannot be used. For [`BenchPhases::Data`] also [`TrainError::Data`] or [`TrainError::Empty`] when the training set
/// cannot be used.
///
/// # Panics
/// When the device fails.
pub fn bench(
    config: &RunConfig,
    device: &Device,
    phases: BenchPhases,
    detector: Option<&Checkpoint>,
    count: bool,
) -> Result<BenchReport, TrainError> {
    config.validate()?;
    let bench = &config.bench;
    let wants = |phase| phases == BenchPhases::All || phases == phase;
    let mut report = BenchReport {
        batch: bench.batch_size,
        height: bench.height,
        width: bench.width,
        peak_rss_mb: -1.0,
        first_step_seconds: -1.0,
        turn_steps: 1,
        peak_device_mb: -1.0,
        operations_per_step: -1,
        blocks_per_step: -1,
        ..BenchReport::default()
    };
    if phases == BenchPhases::Data {
        report.batch = config.train.batch_size;
        (report.data_images_per_second, report.transforms) = loading::images_per_second(config)?;
        return Ok(report);
    }
    check_precision(config.train.precision, device)?;
    fits_on_device(config, device, phases, detector)?;
    report.precision = config.train.precision.name().to_owned();
    let inputs = Inputs::new(config, device);
    report.turn_steps = inputs.turn;
    if wants(BenchPhases::Train) {
        let training = inputs.train(config, count)?;
        report.train_step_ms = report.keep(training.timed);
        report.first_step_values = training.first_values;
        report.peak_rss_mb = peak_rss_mb().unwrap_or(-1.0);
        if let Some(counted) = training.counted {
            [report.operations_per_step, report.blocks_per_step] = counted.map(|n| n as i64);
        }
    }
    if wants(BenchPhases::Infer) {
        let (timed, detections) = inputs.infer(config, detector)?;
        report.infer_ms = report.keep(timed);
        report.detections = detections;
    }
    if wants(BenchPhases::Loss) {
        report.loss_ms = report.keep(inputs.loss(config));
    }
    if wants(BenchPhases::Focal) {
        report.focal_ms = report.keep(inputs.focal(config));
    }
    Ok(report)
}

/// Compares the batch with the limits of the device, for those of training and inference that are measured.
fn fits_on_device(
    config: &RunConfig,
    device: &Device,
    phases: BenchPhases,
    detector: Option<&Checkpoint>,
) -> Result<(), DoesNotFit> {
    const KEY: &str = "bench.batch_size";
    let (limits, bench) = (DeviceLimits::of(device), &config.bench);
    if limits.is_empty() {
        return Ok(());
    }
    let size = [bench.height, bench.width];
    if matches!(phases, BenchPhases::All | BenchPhases::Train) {
        let demand = Demand::of_training(&config.train, &config.model, bench.classes, size);
        demand.check(KEY, bench.batch_size, limits)?;
    }
    if matches!(phases, BenchPhases::All | BenchPhases::Infer) {
        let (model, classes) = match detector {
            Some(detector) => (&detector.meta.model, detector.meta.categories.len()),
            None => (&config.model, bench.classes),
        };
        Demand::of_inference(model, classes, size, config.train.precision).check(KEY, bench.batch_size, limits)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::as_accelerator;
    use crate::memory::with_limits;
    use crate::run::READS;
    use crate::testing::tiny;

    fn config() -> RunConfig {
        let mut config = tiny();
        let b = &mut config.bench;
        (b.height, b.width, b.batch_size, b.classes, b.steps, b.warmup) = (64, 64, 2, 3, 3, 0);
        config
    }

    #[test]
    fn a_batch_beyond_a_limit_is_refused_with_the_key_of_the_benchmark() {
        // The largest tensor of training is the unfolded input of the stem, which inference has not.
        let limits = DeviceLimits { tensor_bytes: Some(4 * 32 * 32 * 147), memory_bytes: None };
        let run = |phases| with_limits(limits, || bench(&config(), &Device::flex(), phases, None, false));
        for phases in [BenchPhases::All, BenchPhases::Train] {
            let refused = run(phases).unwrap_err().to_string();
            assert!(
                refused.starts_with("bench.batch_size: expected at most 1 for images of 64x64 pixels")
                    && refused.ends_with("Set bench.batch_size = 1, or lower bench.height and bench.width"),
                "{refused}"
            );
        }
        assert!(run(BenchPhases::Infer).is_ok());
        let none = DeviceLimits { tensor_bytes: None, memory_bytes: Some(1) };
        let refused = with_limits(none, || bench(&config(), &Device::flex(), BenchPhases::Infer, None, false));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.ends_with("To go on, lower bench.height and bench.width"), "{refused}");
    }

    /// A line of the log is read in one transfer, and the result of each turn is read outside the clock.
    #[test]
    fn the_results_of_a_gpu_are_read_as_in_training() {
        let reads = |phases, log_every| {
            let mut config = config();
            config.train.log_every = log_every;
            READS.set(0);
            as_accelerator(|| bench(&config, &Device::flex(), phases, None, false)).unwrap();
            READS.get()
        };
        // The first step, the end of the warm-up, and the end of the only turn, in which no line of the log ends.
        assert_eq!(reads(BenchPhases::Train, 20), 3);
        // The same with a turn of three steps, at whose end a line of the log is read.
        assert_eq!(reads(BenchPhases::Train, 3), 4);
        // The gradients of logits and deltas after the warm-up and after the turn.
        assert_eq!(reads(BenchPhases::Loss, 20), 4);
        assert_eq!(reads(BenchPhases::Focal, 20), 2);
    }
}
