//! `foveal bench`: times training steps, inference, losses and data loading.

mod cases;

use std::path::Path;

use anyhow::Result;
use foveal_detector::Checkpoint;
use foveal_train::{BenchPhases, BenchReport, RunConfig, bench, write_raw_outputs};

use crate::args::{BenchArgs, BenchPhase, Common};
use crate::config::{self, Layer};
use crate::device::Picked;
use crate::failure::{DONE, Usage};
use crate::outputs::Files;
use crate::{device, output};
use cases::Shared;

/// The setting of the batch size.
pub(super) const BATCH_SIZE: &str = "bench.batch_size";

/// The settings of a benchmark without a configuration file that differ from the defaults.
const STANDARD: [&str; 3] = ["model.backbone=resnet50", "model.norm=frozen_batch", "train.optimizer=sgd"];

/// Times the selected phases and prints the results.
///
/// # Errors
/// [`Usage`] for `--count` on a CPU; another error if the configuration, the device, the checkpoint, the training set
/// or the file of cases cannot be used.
pub(super) fn run(args: &BenchArgs, common: &Common) -> Result<u8> {
    let mut layers: Vec<Layer> = match &args.config {
        Some(path) => config::layers(path)?,
        None => STANDARD.into_iter().map(Layer::from_set).collect::<Result<_>>()?,
    };
    let files = config::files_of(&layers);
    for set in &common.set {
        layers.push(Layer::from_set(set)?);
    }
    layers.extend(args.precision.as_deref().map(precision_layer).transpose()?);
    let mut config = config::with_sets(layers.clone(), &[])?;
    if let Some(steps) = args.steps {
        config.bench.steps = steps as usize;
    }
    Files::new()
        .read("configuration", &files)
        .read("checkpoint", &args.checkpoint)
        .read("file of cases", args.cases.iter().filter(|path| *path != Path::new("-")))
        .read_config(&config)
        .write("--json", &args.json)
        .write("--outputs", &args.outputs)
        .check()?;
    let picked = device::pick(&common.device)?;
    if args.count && picked.gpu.is_none() {
        return Err(Usage(format!("--count: expected a GPU, found the CPU device {}", picked.name)).into());
    }
    let detector = match &args.checkpoint {
        Some(path) => Some(Checkpoint::load(path, &picked.device)?),
        None => None,
    };
    if let Some(cases) = &args.cases {
        let shared = Shared { layers, picked: &picked, detector: detector.as_ref(), count: args.count };
        return shared.run(cases, args.json.as_deref());
    }
    let mut report = bench(&config, &picked.device, phases(args.only), detector.as_ref(), args.count)?;
    fill(&mut report, &config, &picked);
    if let Some(path) = &args.outputs {
        output::create_parent(path)?;
        write_raw_outputs(&config, &picked.device, detector.as_ref(), path)?;
    }
    let table = match args.only {
        Some(BenchPhase::Data) => loading_table(&report),
        Some(BenchPhase::Peak) => peak_table(&report),
        _ => table(&report),
    };
    output::emit(args.json.as_deref(), &report, &table)?;
    Ok(DONE)
}

fn phases(only: Option<BenchPhase>) -> BenchPhases {
    match only {
        None => BenchPhases::All,
        Some(BenchPhase::Train) => BenchPhases::Train,
        Some(BenchPhase::Infer) => BenchPhases::Infer,
        Some(BenchPhase::Loss) => BenchPhases::Loss,
        Some(BenchPhase::Focal) => BenchPhases::Focal,
        Some(BenchPhase::Data) => BenchPhases::Data,
        Some(BenchPhase::Raw) => BenchPhases::Raw,
        Some(BenchPhase::Peak) => BenchPhases::Peak,
    }
}

/// Fills in what the library does not know: the device and its driver, and the threads.
fn fill(report: &mut BenchReport, config: &RunConfig, picked: &Picked) {
    let loads = !report.data_images_per_second.is_empty();
    report.threads = if loads { config.data.worker_count() } else { rayon::current_num_threads() };
    report.device.clone_from(&picked.name);
    if let Some(gpu) = &picked.gpu {
        report.adapter.clone_from(&gpu.info.name);
        report.driver.clone_from(&gpu.info.driver);
        report.compiler.clone_from(&gpu.can.compiler);
    }
}

/// The layer for `--precision`.
fn precision_layer(value: &str) -> Result<Layer> {
    Layer::from_set(&format!("train.precision={value}"))
}

/// The table of all phases but `data`.
fn table(report: &BenchReport) -> String {
    let mut table = format!(
        " {}, {} threads, batch {}, {}x{} (height x width), {}\n",
        report.device, report.threads, report.batch, report.height, report.width, report.precision
    );
    if !report.adapter.is_empty() {
        table += &format!(" driver      {}; kernels in {}\n", report.driver, report.compiler);
    }
    let phases = [
        ("train step", &report.train_step_ms, report.turn_steps),
        ("inference", &report.infer_ms, 1),
        ("network", &report.infer_raw_ms, report.turn_steps),
        ("loss", &report.loss_ms, report.turn_steps),
        ("class loss", &report.focal_ms, report.turn_steps),
    ];
    for (name, times, turn) in phases {
        if let Some(median) = median(times) {
            let least = times.iter().copied().fold(f64::INFINITY, f64::min);
            let of = if turn > 1 { format!("turns of up to {turn} repetitions") } else { "repetitions".to_owned() };
            table +=
                &format!(" {name:<10}  {median:>9.1} ms median, {least:>9.1} ms minimum of {} {of}\n", times.len());
        }
    }
    if !report.adapter.is_empty() {
        table += &format!(" first step  {:>9.1} s, with compiling and tuning\n", report.first_step_seconds);
    }
    if report.peak_rss_mb >= 0.0 {
        table += &format!(" memory      {:>9.0} MiB peak in training\n", report.peak_rss_mb);
    }
    if report.minor_faults >= 0.0 {
        table += &format!(" page faults {:>9.0} minor in a repetition\n", report.minor_faults);
    }
    if report.peak_device_mb >= 0.0 {
        table += &format!(" GPU memory  {:>9.0} MiB held by the allocator\n", report.peak_device_mb);
    }
    if report.blocks_per_step >= 0 {
        let (blocks, operations) = (report.blocks_per_step, report.operations_per_step);
        table += &format!(" kernels     {blocks:>9} fused kernels and single operations of {operations} operations\n");
    }
    table
}

/// The table of the phase `data`.
fn loading_table(report: &BenchReport) -> String {
    let rates = &report.data_images_per_second;
    let median = median(rates).unwrap_or_default();
    let most = rates.iter().copied().fold(0.0, f64::max);
    let (workers, passes) = (report.threads, rates.len());
    format!(
        " loading     {median:>9.1} images/s median, {most:>9.1} maximum of {passes} passes; {workers} workers\n{}",
        report.transforms
    )
}

/// The table of the phase `peak`.
fn peak_table(report: &BenchReport) -> String {
    let most = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    format!(
        " {}, GFLOP/s of f32 multiply-adds\n one thread  {:>9.1} maximum\n {} threads  {:>9.1} maximum\n",
        report.instruction_set,
        most(&report.peak_gflops_one),
        report.threads,
        most(&report.peak_gflops_all),
    )
}

/// The median; `None` for an empty list.
fn median(times: &[f64]) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}
