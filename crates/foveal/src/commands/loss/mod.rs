//! `foveal loss`.

mod curves;
mod prior;
mod share;
mod suggest;
mod weights;

use anyhow::Result;

use crate::args::{Common, LossCommand};

/// Runs one of the loss commands.
///
/// # Errors
/// A configuration, data or a file that cannot be used.
pub fn run(command: LossCommand, common: &Common) -> Result<u8> {
    match command {
        LossCommand::Share(args) => share::run(&args),
        LossCommand::Prior(args) => prior::run(&args),
        LossCommand::Suggest(args) => suggest::run(&args, common),
    }
}
