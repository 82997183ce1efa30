//! `foveal train`: trains a detector.

use std::path::Path;

use anyhow::{Context, Result};
use foveal_train::{Outcome, RunConfig, RunDir, train};

use super::interrupt;
use crate::args::{Common, TrainArgs};
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
    let run = folder(args, &config)?;
    let mut console = Console::new();
    console.line(&format!("run {}, device {}", run.root().display(), picked.name));
    match train(&config, &picked.device, &run, args.resume, &mut console, &stop) {
        Ok(Outcome::Finished(summary)) => {
            drop(console);
            match (summary.best, &summary.evaluation) {
                (Some(best), _) => {
                    eprintln!("best AP {:.3} after epoch {}: {}", best.ap, best.epoch, run.best().display());
                }
                (None, Some(_)) => eprintln!(
                    "warning: there is no best checkpoint, because AP is undefined without objects in the validation \
                     set; the last one is {}",
                    run.last().display()
                ),
                (None, None) => {}
            }
            if let Some(evaluation) = &summary.evaluation {
                output::print(&evaluation.metrics.table())?;
            }
            Ok(DONE)
        }
        Ok(Outcome::Interrupted { epoch }) => {
            drop(console);
            eprintln!("interrupted after epoch {epoch}; continue with --resume --out {}", run.root().display());
            Ok(INTERRUPTED)
        }
        Err(error) => {
            drop(console);
            if !args.resume {
                remove_empty(&run);
            }
            Err(error.into())
        }
    }
}

/// Creates or opens the run directory.
fn folder(args: &TrainArgs, config: &RunConfig) -> Result<RunDir> {
    let parent = Path::new(RUNS);
    Ok(match (&args.out, args.resume) {
        (Some(out), true) => RunDir::resume(out)?,
        (Some(out), false) => RunDir::create(out).context("cannot create the run directory")?,
        (None, true) => {
            let latest = RunDir::latest(parent, &config.name).ok_or_else(|| {
                Usage(format!(
                    "--resume: found no run {RUNS}/{}-<n> with a saved state; pass the run directory with --out",
                    config.name
                ))
            })?;
            RunDir::resume(&latest)?
        }
        (None, false) => RunDir::next(parent, &config.name)?,
    })
}

/// Removes the directory of a run that failed before it wrote a file; a directory with files is kept.
fn remove_empty(run: &RunDir) {
    for folder in ["checkpoints", "state", ""] {
        // This removes only empty folders; if it fails, the folder is kept, which is harmless.
        let _ = std::fs::remove_dir(run.root().join(folder));
    }
}
