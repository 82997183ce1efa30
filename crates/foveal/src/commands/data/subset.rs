//! `foveal data subset`: selects images and objects.

use anyhow::Result;
use foveal_sets::{OtherSizes, SubsetOptions, subset};
use glob::Pattern;

use super::sets::{check_new, finish, of_sets, open};
use crate::failure::Usage;
use crate::outputs::Files;
use crate::sets_args::{LeftOverArg, SubsetArgs};

/// Writes the selection and prints its counts.
///
/// # Errors
/// [`Usage`] for a pattern, an id or a count that cannot be used; another error if the data set cannot be read, nothing
/// is selected, or the output exists and `--force` is not given, or cannot be written.
pub(super) fn run(args: &SubsetArgs) -> Result<u8> {
    Files::new()
        .read("annotation file", [&args.file])
        .write("--out", [&args.out])
        .write("--json", &args.change.json)
        .check()?;
    check_new(std::slice::from_ref(&args.out), args.force)?;
    let pattern = |text: &String| {
        let wrong =
            |error| Usage(format!("--files: expected a glob pattern such as 'day/*.jpg', found {text:?}: {error}"));
        Pattern::new(text).map_err(wrong)
    };
    let options = SubsetOptions {
        ids: args.ids.clone(),
        files: args.files.iter().map(pattern).collect::<Result<_, _>>()?,
        classes: args.classes.clone(),
        min_size: args.min_size,
        max_size: args.max_size,
        other_sizes: match args.other_sizes {
            LeftOverArg::Crowd => OtherSizes::Crowd,
            LeftOverArg::Drop => OtherSizes::Drop,
        },
        with_objects: args.with_objects,
        count: args.count.map(|count| count as usize),
        seed: args.seed,
    };
    let selected = subset(open(&args.file, &args.change)?, &options).map_err(of_sets)?;
    finish(&args.out, &selected.dataset, &selected.report, &args.change)
}
