//! foveal: trains, evaluates and runs dense object detectors from the command line.
#![recursion_limit = "256"]

mod allocator;
mod analysis_args;
mod args;
mod chart;
mod commands;
mod config;
mod console;
mod convert_args;
mod data_args;
mod device;
mod draw;
mod examples;
mod failure;
mod fit_args;
mod identity;
mod init_args;
mod inputs;
mod loss_args;
mod output;
mod outputs;
mod page;
mod precision;
mod progress;
mod report;
mod resamples;
mod sets_args;

use std::process::ExitCode;

use foveal_base::printable;

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    failure::install_panic_hook();
    let cli = match examples::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(answer(&error)),
    };
    // A hidden switch for measurements and tests: the instruction set of the CPU kernels.
    if let Some(name) = std::env::var_os("FOVEAL_ISA")
        && let Err(error) = foveal_kernels::force_instruction_set(&name.to_string_lossy())
    {
        console::line(&format!("error: FOVEAL_ISA: {error}"));
        return ExitCode::from(failure::USAGE);
    }
    let batch_size = commands::batch_size(&cli.command);
    let code = std::panic::catch_unwind(|| match commands::run(cli) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    });
    device::end_process(code.unwrap_or_else(|_| failure::report_panic(batch_size)))
}

/// Prints what clap has to say in place of a command: help and version to stdout, an error of the command line to
/// stderr. Returns the exit code.
fn answer(error: &clap::Error) -> u8 {
    if error.use_stderr() {
        // The message quotes the arguments as they are, and a pattern of the shell can put hostile file names there.
        let arguments = std::env::args_os().map(|argument| printable(&argument.to_string_lossy()).into_owned());
        let again = examples::parse(arguments).err().filter(|again| again.kind() == error.kind());
        match again {
            Some(again) => drop(again.print()),
            None => error.to_string().lines().for_each(console::line),
        }
        return failure::USAGE;
    }
    match error.print() {
        Err(failed) if !output::is_gone(&failed) => {
            failure::report(&anyhow::Error::new(failed).context("cannot write to stdout"))
        }
        _ => failure::DONE,
    }
}
