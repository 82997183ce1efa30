//! `foveal bench`: times training steps, inference, losses and data loading.

use anyhow::Result;
use foveal_detector::Checkpoint;
use foveal_train::{BenchPhases, BenchReport, bench};

use crate::args::{BenchArgs, BenchPhase, Common};
use crate::config::{self, Layer};
use crate::failure::DONE;
use crate::outputs::Files;
use crate::{device, output};

/// The settings of a benchmark without a configuration file that differ from the defaults.
const STANDARD: [&str; 3] = ["model.backbone=resnet50", "model.norm=frozen_batch", "train.optimizer=sgd"];

/// Times the selected phases and prints the results.
///
/// # Errors
/// If the configuration, the device, the checkpoint or the training set cannot be used.
pub(super) fn run(args: &BenchArgs, common: &Common) -> Result<u8> {
    let base: Vec<Layer> = match &args.config {
        Some(path) => vec![Layer::from_file(path)?],
        None => STANDARD.into_iter().map(Layer::from_set).collect::<Result<_>>()?,
    };
    let mut config = config::with_sets(base, &common.set)?;
    if let Some(steps) = args.steps {
        config.bench.steps = steps as usize;
    }
    let phases = match args.only {
        None => BenchPhases::All,
        Some(BenchPhase::Train) => BenchPhases::Train,
        Some(BenchPhase::Infer) => BenchPhases::Infer,
        Some(BenchPhase::Loss) => BenchPhases::Loss,
        Some(BenchPhase::Focal) => BenchPhases::Focal,
        Some(BenchPhase::Data) => BenchPhases::Data,
    };
    Files::new()
        .read("configuration", &args.config)
        .read("checkpoint", &args.checkpoint)
        .read_config(&config)
        .write("--json", &args.json)
        .check()?;
    let picked = device::pick(&common.device)?;
    let detector = match &args.checkpoint {
        Some(path) => Some(Checkpoint::load(path, &picked.device)?),
        None => None,
    };
    let mut report = bench(&config, &picked.device, phases, detector.as_ref())?;
    report.device = picked.name;
    report.threads = rayon::current_num_threads();
    if phases == BenchPhases::Data {
        report.threads = config.data.worker_count();
        output::emit(args.json.as_deref(), &report, &loading_table(&report))?;
        return Ok(DONE);
    }
    let mut table = format!(
        " {}, {} threads, batch {}, {}x{} (height x width)\n",
        report.device, report.threads, report.batch, report.height, report.width
    );
    let phases = [
        ("train step", &report.train_step_ms),
        ("inference", &report.infer_ms),
        ("loss", &report.loss_ms),
        ("class loss", &report.focal_ms),
    ];
    for (name, times) in phases {
        if let Some(median) = median(times) {
            let least = times.iter().copied().fold(f64::INFINITY, f64::min);
            table += &format!(
                " {name:<10}  {median:>9.1} ms median, {least:>9.1} ms minimum of {} repetitions\n",
                times.len()
            );
        }
    }
    if report.peak_rss_mb >= 0.0 {
        table += &format!(" memory      {:>9.0} MiB peak in training\n", report.peak_rss_mb);
    }
    output::emit(args.json.as_deref(), &report, &table)?;
    Ok(DONE)
}

/// The table of the phase `data`.
fn loading_table(report: &BenchReport) -> String {
    let rates = &report.data_images_per_second;
    let median = median(rates).unwrap_or_default();
    let most = rates.iter().copied().fold(0.0, f64::max);
    let (workers, passes) = (report.threads, rates.len());
    format!(" loading     {median:>9.1} images/s median, {most:>9.1} maximum of {passes} passes; {workers} workers\n")
}

/// The median; `None` for an empty list.
fn median(times: &[f64]) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}
