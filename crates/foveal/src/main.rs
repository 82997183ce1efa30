//! foveal: trains, evaluates and runs dense object detectors from the command line.
#![recursion_limit = "256"]

mod args;
mod chart;
mod commands;
mod config;
mod device;
mod draw;
mod failure;
mod identity;
mod inputs;
mod loss_args;
mod output;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;

/// Keeps freed buffers for reuse by the next step instead of returning them to the operating system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    failure::install_panic_hook();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap prints help and version to stdout (exit code 0) and errors to stderr (exit code 2).
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::USAGE } else { failure::DONE });
        }
    };
    let code = std::panic::catch_unwind(|| match commands::run(cli) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    });
    ExitCode::from(code.unwrap_or_else(|_| failure::report_panic()))
}
