//! The commands, one module each.

mod analysis;
mod anchors;
mod bench;
mod completions;
mod config;
mod crops;
mod data;
mod detect;
mod devices;
mod doctor;
mod eval;
mod explain;
mod export;
mod import;
mod init;
mod interrupt;
mod lab;
mod loss;
mod predict;
mod probe;
mod replay;
mod report;
mod score;
mod summary;
mod train;

use anyhow::Result;

use crate::args::{Cli, Command};
use crate::{console, device};

/// The setting of the batch size of a command; `None` for those whose batch cannot be chosen.
pub(crate) fn batch_size(command: &Command) -> Option<&'static str> {
    match command {
        Command::Train(_) | Command::Lab(_) => Some("train.batch_size"),
        Command::Eval(_) | Command::Predict(_) => Some("eval.batch_size"),
        Command::Bench(_) => Some(bench::BATCH_SIZE),
        _ => None,
    }
}

/// Runs the command and returns its exit code.
///
/// # Errors
/// If the command fails. A [`Usage`](crate::failure::Usage) error stands for a wrong command line.
pub(crate) fn run(cli: Cli) -> Result<u8> {
    let Cli { common, command } = cli;
    if common.quiet {
        console::be_quiet();
    }
    device::set_threads(common.threads)?;
    match command {
        Command::Train(args) => train::run(&args, &common),
        Command::Eval(args) => eval::run(&args, &common),
        Command::Score(args) => score::run(&args, &common),
        Command::Predict(args) => predict::run(&args, &common),
        Command::Import(args) => import::run(&args),
        Command::Init(args) => init::run(&args, &common),
        Command::Export(args) => export::run(&args, &common),
        Command::Config(args) => config::run(&args, &common),
        Command::Bench(args) => bench::run(&args, &common),
        Command::Data(args) => data::run(args, &common),
        Command::Anchors(args) => anchors::run(args, &common),
        Command::Loss(args) => loss::run(args, &common),
        Command::Summary(args) => summary::run(&args, &common),
        Command::Lab(args) => lab::run(&args, &common),
        Command::Devices(args) => devices::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Replay(args) => replay::run(&args, &common),
        Command::Report(args) => report::run(&args),
    }
}
