//! Benchmarks (`foveal bench`): time of training steps, inference and losses on seeded random data, and speed of
//! loading a data set.

mod blocks;
mod clock;
mod feed;
mod inputs;
mod loading;
mod outputs;
mod report;

use burn::tensor::Device;
use foveal_detector::Checkpoint;
use foveal_kernels::{instruction_set, keep_weights, peak_gflops};

use crate::config::RunConfig;
use crate::error::TrainError;
use crate::memory::{Demand, DeviceLimits, DoesNotFit};
use crate::train::check_precision;
use clock::peak_rss_mb;
use inputs::Inputs;
pub use outputs::write_raw_outputs;
pub use report::BenchReport;

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
    /// The network alone: backbone, feature pyramid and heads, without anchors and post-processing.
    Raw,
    /// Peak throughput of the CPU's vector units, with which the throughput of the other phases is compared.
    Peak,
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
        instruction_set: instruction_set().to_owned(),
        minor_faults: -1.0,
        ..BenchReport::default()
    };
    if phases == BenchPhases::Data {
        report.batch = config.train.batch_size;
        (report.data_images_per_second, report.transforms) = loading::images_per_second(config, device)?;
        return Ok(report);
    }
    if phases == BenchPhases::Peak {
        for _ in 0..bench.warmup {
            peak_gflops(rayon::current_num_threads());
        }
        for _ in 0..bench.steps {
            report.peak_gflops_one.push(peak_gflops(1));
            report.peak_gflops_all.push(peak_gflops(rayon::current_num_threads()));
        }
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
        let _kept = keep_weights();
        let (timed, detections) = inputs.infer(config, detector)?;
        report.infer_ms = report.keep(timed);
        report.detections = detections;
    }
    if phases == BenchPhases::Raw {
        let _kept = keep_weights();
        report.infer_raw_ms = report.keep(inputs.raw(config, detector)?);
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
    if matches!(phases, BenchPhases::All | BenchPhases::Infer | BenchPhases::Raw) {
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
