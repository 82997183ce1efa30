//! The commands of `foveal data` that write other COCO data sets, and what they share.

use std::path::{Path, PathBuf};

use anyhow::{Error, Result, bail};
use foveal_coco::WholeDataset;
use foveal_sets::{ChangeReport, SetFile, SetsError};

use super::{merge, remap, split, subset, tile};
use crate::args::Common;
use crate::console::note;
use crate::convert_args::OnErrorArg;
use crate::failure::{DONE, Usage};
use crate::output;
use crate::sets_args::{ChangeArgs, SetsCommand};

/// Runs one of the commands and returns its exit code.
///
/// # Errors
/// [`Usage`] for a value of an option that cannot be used; another error if a file cannot be read or written, exists
/// and may not be overwritten, or contains what the command cannot change.
pub(super) fn run(command: SetsCommand, common: &Common) -> Result<u8> {
    match command {
        SetsCommand::Split(args) => split::run(&args),
        SetsCommand::Merge(args) => merge::run(&args),
        SetsCommand::Subset(args) => subset::run(&args),
        SetsCommand::Remap(args) => remap::run(&args),
        SetsCommand::Tile(args) => tile::run(&args, common),
    }
}

/// Reads a data set, with warnings about records that are left out.
pub(super) fn open(path: &Path, change: &ChangeArgs) -> Result<SetFile> {
    SetFile::open(path, change.on_error == OnErrorArg::Skip).map_err(of_sets)
}

/// The error of a wrong option has another exit code than others.
pub(super) fn of_sets(error: SetsError) -> Error {
    match error {
        SetsError::Option { .. } => Usage(error.to_string()).into(),
        other => other.into(),
    }
}

/// Checks that files may be written.
pub(super) fn check_new(paths: &[PathBuf], force: bool) -> Result<()> {
    if let Some(exists) = paths.iter().find(|path| !force && path.exists()) {
        bail!("{}: the file exists; expected a new file, or --force to overwrite it", exists.display());
    }
    Ok(())
}

/// Writes a data set, and creates its folder if needed.
pub(super) fn write(path: &Path, dataset: &WholeDataset) -> Result<()> {
    output::create_parent(path)?;
    dataset.write(path)?;
    let (images, annotations) = (dataset.images.len(), dataset.annotations.len());
    note!("{}: {images} images, {annotations} annotations, {} categories", path.display(), dataset.categories.len());
    Ok(())
}

/// Writes the data set that a change makes, and shows what it did.
pub(super) fn finish(path: &Path, dataset: &WholeDataset, report: &ChangeReport, change: &ChangeArgs) -> Result<u8> {
    write(path, dataset)?;
    report.notes.iter().for_each(|text| note!("{text}"));
    report.warnings.iter().for_each(|text| note!("warning: {text}"));
    output::emit(change.json.as_deref(), report, &report.to_string())?;
    Ok(DONE)
}
