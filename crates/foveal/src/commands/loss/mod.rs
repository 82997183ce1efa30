//! `foveal loss`.

mod curves;
mod prior;
mod share;

use anyhow::Result;

use crate::args::LossCommand;

/// Runs one of the loss commands.
///
/// # Errors
/// A file that cannot be written.
pub fn run(command: LossCommand) -> Result<u8> {
    match command {
        LossCommand::Share(args) => share::run(&args),
        LossCommand::Prior(args) => prior::run(&args),
    }
}
