//! `foveal loss`: analyses class losses for imbalanced data.

mod curves;
mod prior;
mod share;
mod suggest;
mod weights;

use anyhow::Result;

use crate::args::{Common, LossCommand};

/// Runs a subcommand of `foveal loss` and returns its exit code.
///
/// # Errors
/// If the arguments contradict each other, the configuration or the data cannot be used, or a file cannot be written.
pub(super) fn run(command: LossCommand, common: &Common) -> Result<u8> {
    match command {
        LossCommand::Share(args) => share::run(&args),
        LossCommand::Prior(args) => prior::run(&args),
        LossCommand::Suggest(args) => suggest::run(&args, common),
    }
}
