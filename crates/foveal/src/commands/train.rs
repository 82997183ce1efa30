//! `foveal train`: trains a detector.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use burn::tensor::Device;
use foveal_train::{DeviceLimits, LossScaling, Outcome, Room, RunConfig, RunDir, Start, auto_batch, is_host, train};

use super::interrupt;
use crate::args::{Common, TrainArgs};
use crate::console::note;
use crate::failure::{DONE, INTERRUPTED, Usage};
use crate::progress::Console;
use crate::report::StartRecord;
use crate::{config, device, output};

/// The folder of runs without `--out`.
const RUNS: &str = "runs";

/// Trains a detector. Prints the run directory to stderr and the metrics of the last evaluation to stdout.
///
/// # Errors
/// If the configuration, the data or the weights cannot be used, a file cannot be written, or the loss is not finite.
pub(super) fn run(args: &TrainArgs, common: &Common) -> Result<u8> {
    let mut config = config::load(Some(&args.config), &common.set)?;
    if let Some(count) = args.overfit {
        config.train.overfit = count as usize;
    }
    if args.no_step0_check {
        config.train.step0_check = false;
    }
    let picked = device::pick(&common.device)?;
    if args.auto_batch && !args.resume {
        take_batch(&mut config, &picked.device)?;
    }
    let stop = interrupt::flag()?;
    let mut console = Console::new();
    console.run_on_epoch(config.train.on_epoch.take());
    let run = folder(args, &config, &console)?;
    if args.auto_batch && args.resume {
        if run.has_state() {
            keep_batch(&mut config, &run)?;
        } else {
            take_batch(&mut config, &picked.device)?;
        }
    }
    let start = if args.resume { Start::Resume { allow_changes: args.allow_changes } } else { Start::New };
    if args.resume {
        console.read_evaluations(&run.metrics());
    }
    console.line(&format!("run {}, device {}", run.root().display(), picked.name));
    if let Some(gpu) = &picked.gpu {
        console.line(&gpu.text());
    }
    console.record_in(run.root().to_owned(), StartRecord::now(&picked.name));
    match train(&config, &picked.device, &run, start, &mut console, &stop) {
        Ok(Outcome::Finished(summary)) => {
            drop(console);
            match (summary.best, &summary.evaluation) {
                (Some(best), _) => {
                    let by = &config.train.best_by;
                    let value = by.shown(best.value.unwrap_or(best.ap));
                    note!("best {} {value:.3} after epoch {}: {}", by, best.epoch, run.best().display());
                }
                (None, Some(_)) => note!(
                    "warning: there is no best checkpoint, because {} is undefined without objects in the validation \
                     set; the last one is {}",
                    config.train.best_by,
                    run.last().display()
                ),
                (None, None) => {}
            }
            if let Some(LossScaling { scale, skipped, .. }) = summary.loss_scaling {
                note!(
                    "{skipped} of {} steps were left out because values overflowed in f16; the loss scale at the end is {scale}",
                    summary.step
                );
            }
            if let Some(evaluation) = &summary.evaluation {
                output::print(&evaluation.metrics.table())?;
            }
            Ok(DONE)
        }
        Ok(Outcome::Interrupted { epoch, step }) => {
            drop(console);
            note!(
                "interrupted at step {step}, after {epoch} epochs; continue with --resume --out {}",
                run.root().display()
            );
            Ok(INTERRUPTED)
        }
        Err(error) => {
            drop(console);
            run.remove_unused();
            Err(error.into())
        }
    }
}

/// Sets the batch size that the memory of the device has room for, and says what it follows from.
///
/// # Errors
/// If the training set cannot be opened, the memory is unknown, or there is no room for one image.
fn take_batch(config: &mut RunConfig, device: &Device) -> Result<()> {
    let room = if is_host(device) {
        let memory = device::main_memory().ok_or_else(|| {
            anyhow!("--auto-batch: this system does not state how much memory is free; set train.batch_size instead")
        })?;
        Room::Cpu { free: memory.free }
    } else {
        Room::Gpu(DeviceLimits::of(device))
    };
    let auto = auto_batch(config, room).context("--auto-batch")?;
    config.train.batch_size = auto.batch;
    config.validate().context("--auto-batch")?;
    note!("--auto-batch: {auto}");
    let follows = match config.train.scale_lr {
        true => "train.lr for 16 images, scaled to the images of a step (train.scale_lr)",
        false => "train.lr as it is, because train.scale_lr = false",
    };
    note!("--auto-batch: the learning rate is {} after the warm-up: {follows}", config.train.base_lr());
    Ok(())
}

/// Sets the batch size with which the run was begun.
///
/// # Errors
/// If the configuration of the run cannot be read.
fn keep_batch(config: &mut RunConfig, run: &RunDir) -> Result<()> {
    let saved = config::load(Some(&run.config()), &[]).context("--auto-batch --resume")?;
    config.train.batch_size = saved.train.batch_size;
    config.validate().context("--auto-batch --resume")?;
    note!("--auto-batch: train.batch_size = {}, with which the run was begun", config.train.batch_size);
    Ok(())
}

/// Creates or opens the run directory.
fn folder(args: &TrainArgs, config: &RunConfig, console: &Console) -> Result<RunDir> {
    let parent = Path::new(RUNS);
    Ok(match (&args.out, args.resume) {
        (Some(out), true) => RunDir::resume(out)?,
        (Some(out), false) => RunDir::create(out).context("cannot create the run directory")?,
        (None, true) => {
            let (latest, runs) = RunDir::latest(parent, &config.name).ok_or_else(|| {
                Usage(format!(
                    "--resume: found no run {RUNS}/{}-<n> with a saved state; pass the run directory with --out",
                    config.name
                ))
            })?;
            let others = if runs > 1 { format!(", the latest of {runs} runs of that name") } else { String::new() };
            console.line(&format!("--resume without --out takes {}{others}", latest.display()));
            RunDir::resume(&latest)?
        }
        (None, false) => RunDir::next(parent, &config.name)?,
    })
}
