//! `foveal data merge`: joins data sets.

use anyhow::Result;
use foveal_sets::{FileNames, MergeOptions, SameImage, merge};

use super::sets::{check_new, finish, of_sets, open};
use crate::console::note;
use crate::outputs::Files;
use crate::sets_args::{MergeArgs, SameImageArg};

/// Writes the joined data set and prints its counts.
///
/// # Errors
/// [`Usage`](crate::failure::Usage) if the number of folders or prefixes is not that of the files; another error if a
/// file cannot be read or joined, or the output exists and `--force` is not given, or cannot be written.
pub(super) fn run(args: &MergeArgs) -> Result<u8> {
    Files::new()
        .read("annotation file", &args.files)
        .read_images(&args.images)
        .write("--out", [&args.out])
        .write("--json", &args.change.json)
        .check()?;
    check_new(std::slice::from_ref(&args.out), args.force)?;
    let names = match (args.images.is_empty(), args.prefix.is_empty()) {
        (false, _) => FileNames::Folders(args.images.clone()),
        (true, false) => FileNames::Prefixed(args.prefix.clone()),
        (true, true) => FileNames::Kept,
    };
    let same_image = match args.same_image {
        SameImageArg::Error => SameImage::Error,
        SameImageArg::First => SameImage::First,
        SameImageArg::BothObjects => SameImage::Both,
    };
    let inputs = args.files.iter().map(|path| open(path, &args.change)).collect::<Result<Vec<_>>>()?;
    let merged = merge(inputs, &MergeOptions { names, join_alike: args.join_alike, same_image }).map_err(of_sets)?;
    if let Some(folder) = &merged.folder {
        note!("the file names are relative to {}", folder.display());
    }
    finish(&args.out, &merged.dataset, &merged.report, &args.change)
}
