//! `foveal data`: checks, describes, shows, converts and generates data sets.

mod bars;
mod check;
mod convert;
mod merge;
mod opened;
mod remap;
mod sets;
mod show;
mod split;
mod stats;
mod subset;
mod tile;

use std::path::Path;

use anyhow::{Context, Result, bail};
use foveal_data::write_shapes;

use crate::args::{Common, DataCommand};
use crate::config;
use crate::console::note;
use crate::failure::{DONE, Usage};

/// Runs a subcommand of `foveal data` and returns its exit code.
///
/// # Errors
/// If the configuration or the data cannot be used, or a file cannot be written.
pub(super) fn run(command: DataCommand, common: &Common) -> Result<u8> {
    match command {
        DataCommand::Check(args) => check::run(&args, common),
        DataCommand::Stats(args) => stats::run(&args, common),
        DataCommand::Show(args) => show::run(&args, common),
        DataCommand::Convert(command) => convert::run(&command),
        DataCommand::Shapes { out } => shapes(&out, common),
        DataCommand::Sets(command) => sets::run(command, common),
    }
}

/// Checks that the name of a page ends as browsers expect it.
fn check_page_name(path: Option<&Path>) -> Result<(), Usage> {
    match path {
        Some(path) if !is_page(path) => {
            Err(Usage(format!("--html {}: expected a file name that ends in .html", path.display())))
        }
        _ => Ok(()),
    }
}

/// Whether the name of a file is that of a page.
fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ["html", "htm"].iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

fn shapes(out: &Path, common: &Common) -> Result<u8> {
    let config = config::load(None, &common.set)?;
    let taken = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    if taken {
        bail!("{}: the folder exists and is not empty; expected a new or empty folder", out.display());
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot create the folder {}", out.display()))?;
    let shapes = &config.data.shapes;
    write_shapes(shapes, out)?;
    note!("{}: {} training and {} validation images", out.display(), shapes.count, shapes.val_count);
    Ok(DONE)
}
