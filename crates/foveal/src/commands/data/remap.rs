//! `foveal data remap`: renames, joins and drops classes.

use anyhow::Result;
use foveal_sets::{Remap, remap};

use super::sets::{check_new, finish, of_sets, open};
use crate::failure::Usage;
use crate::outputs::Files;
use crate::sets_args::RemapArgs;

/// Writes the data set with its new classes and prints their counts.
///
/// # Errors
/// [`Usage`] for a change that cannot be read, or if there is none; another error if the data set cannot be read, a
/// class does not exist, or the output exists and `--force` is not given, or cannot be written.
pub(super) fn run(args: &RemapArgs) -> Result<u8> {
    let mut changes = Remap::new();
    args.rename.iter().try_for_each(|text| changes.rename(text)).map_err(of_sets)?;
    args.join.iter().try_for_each(|text| changes.join(text)).map_err(of_sets)?;
    args.drop.iter().try_for_each(|name| changes.drop_class(name)).map_err(of_sets)?;
    Files::new()
        .read("annotation file", [&args.file])
        .read("list of changes", &args.map)
        .write("--out", [&args.out])
        .write("--json", &args.change.json)
        .check()?;
    check_new(std::slice::from_ref(&args.out), args.force)?;
    if let Some(path) = &args.map {
        changes.read(path).map_err(of_sets)?;
    }
    if changes.is_empty() {
        let expected = "expected a change of the classes: --rename, --join, --drop or --map";
        return Err(Usage(format!("{expected}, found none")).into());
    }
    let changed = remap(open(&args.file, &args.change)?, &changes).map_err(of_sets)?;
    finish(&args.out, &changed.dataset, &changed.report, &args.change)
}
