//! `foveal train`.

use std::path::Path;

use anyhow::{Context, Result};
use foveal_train::{Outcome, RunConfig, RunDir, train};

use super::interrupt;
use crate::args::{Common, TrainArgs};
use crate::failure::{DONE, INTERRUPTED, Usage};
use crate::progress::Console;
use crate::{config, device, output};

/// Where runs go that name no folder.
const RUNS: &str = "runs";

/// Trains; the run's folder goes to stderr, the last figures to stdout.
///
/// # Errors
/// Config, data, weights, files or a loss that is not finite.
pub fn run(args: &TrainArgs, common: &Common) -> Result<u8> {
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
            if let Some(best) = summary.best {
                eprintln!("best AP {:.3} after epoch {}: {}", best.ap, best.epoch, run.best().display());
            }
            if let Some(evaluation) = &summary.evaluation {
                output::print(&evaluation.metrics.table())?;
            }
            Ok(DONE)
        }
        Ok(Outcome::Interrupted { epoch }) => {
            drop(console);
            eprintln!("interrupted after epoch {epoch}; --resume --out {} continues", run.root().display());
            Ok(INTERRUPTED)
        }
        Err(error) => {
            drop(console);
            if !args.resume {
                forget(&run);
            }
            Err(error.into())
        }
    }
}

fn folder(args: &TrainArgs, config: &RunConfig) -> Result<RunDir> {
    let parent = Path::new(RUNS);
    Ok(match (&args.out, args.resume) {
        (Some(out), true) => RunDir::resume(out)?,
        (Some(out), false) => RunDir::create(out).context("cannot make the run directory")?,
        (None, true) => {
            let latest = RunDir::latest(parent, &config.name).ok_or_else(|| {
                Usage(format!(
                    "--resume: no run {RUNS}/{}-<n> has a state to continue from; name it by --out",
                    config.name
                ))
            })?;
            RunDir::resume(&latest)?
        }
        (None, false) => RunDir::next(parent, &config.name)?,
    })
}

/// Takes away the folder of a run that never came to anything; one with files in it stays.
fn forget(run: &RunDir) {
    for folder in ["checkpoints", "state", ""] {
        // Only an empty folder goes; a failure leaves it, which is harmless.
        let _ = std::fs::remove_dir(run.root().join(folder));
    }
}
