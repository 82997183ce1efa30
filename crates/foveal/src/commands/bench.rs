//! `foveal bench`.

use anyhow::Result;
use foveal_train::{BenchPhases, bench};

use crate::args::{BenchArgs, BenchPhase, Common};
use crate::config::{self, Layer};
use crate::failure::DONE;
use crate::{device, output};

/// What `bench` runs without a config, as far as the defaults do not say it already.
const STANDARD: [&str; 3] = ["model.backbone=resnet50", "model.norm=frozen_batch", "train.optimizer=sgd"];

/// Times training, inference and the loss.
///
/// # Errors
/// A configuration or a device that cannot be used.
pub fn run(args: &BenchArgs, common: &Common) -> Result<u8> {
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
    };
    let picked = device::pick(&common.device)?;
    let mut report = bench(&config, &picked.device, phases)?;
    report.device = picked.name;
    report.threads = rayon::current_num_threads();
    let mut table = format!(
        " {}, {} threads, batch {}, {}x{} (height x width)\n",
        report.device, report.threads, report.batch, report.height, report.width
    );
    let phases = [("train step", &report.train_step_ms), ("inference", &report.infer_ms), ("loss", &report.loss_ms)];
    for (name, times) in phases {
        if let Some(median) = median(times) {
            let least = times.iter().copied().fold(f64::INFINITY, f64::min);
            table += &format!(" {name:<10}  {median:>9.1} ms median, {least:>9.1} ms least of {}\n", times.len());
        }
    }
    if report.peak_rss_mb >= 0.0 {
        table += &format!(" memory      {:>9.0} MiB at most in training\n", report.peak_rss_mb);
    }
    output::emit(args.json.as_deref(), &report, &table)?;
    Ok(DONE)
}

fn median(times: &[f64]) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}
