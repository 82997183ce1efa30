//! `foveal train`: trains a detector.

use std::path::Path;

use anyhow::{Context, Result};
use foveal_train::{LossScaling, Outcome, RunConfig, RunDir, Start, train};

use super::interrupt;
use crate::args::{Common, TrainArgs};
use crate::console::note;
use crate::failure::{DONE, INTERRUPTED, Usage};
use crate::progress::Console;
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
    let stop = interrupt::flag()?;
    let mut console = Console::new();
    let run = folder(args, &config, &console)?;
    let start = if args.resume { Start::Resume { allow_changes: args.allow_changes } } else { Start::New };
    console.line(&format!("run {}, device {}", run.root().display(), picked.name));
    match train(&config, &picked.device, &run, start, &mut console, &stop) {
        Ok(Outcome::Finished(summary)) => {
            drop(console);
            match (summary.best, &summary.evaluation) {
                (Some(best), _) => {
                    note!("best AP {:.3} after epoch {}: {}", best.ap, best.epoch, run.best().display());
                }
                (None, Some(_)) => note!(
                    "warning: there is no best checkpoint, because AP is undefined without objects in the validation \
                     set; the last one is {}",
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
