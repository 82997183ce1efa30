//! `foveal data split`: divides a data set into parts.

use std::path::PathBuf;

use anyhow::Result;
use foveal_sets::{Grouping, PartShare, SplitOptions, split};
use serde_json::{Value, json};

use super::sets::{check_new, of_sets, open, write};
use crate::console::note;
use crate::failure::DONE;
use crate::output;
use crate::outputs::Files;
use crate::sets_args::PartsArgs;

/// Writes the parts and prints their counts.
///
/// # Errors
/// [`Usage`](crate::failure::Usage) for parts or a pattern that cannot be used; another error if the data set cannot be
/// read or divided, or a file exists and `--force` is not given, or cannot be written.
pub(super) fn run(args: &PartsArgs) -> Result<u8> {
    let parts = PartShare::parse_all(&args.parts).map_err(of_sets)?;
    let grouping = match (&args.group, &args.group_by) {
        (Some(pattern), _) => Grouping::pattern(pattern).map_err(of_sets)?,
        (None, Some(key)) => Grouping::Key(key.clone()),
        (None, None) => Grouping::Names,
    };
    let paths: Vec<PathBuf> = parts.iter().map(|part| args.out.join(format!("{}.json", part.name))).collect();
    Files::new()
        .read("annotation file", [&args.file])
        .write("--out", &paths)
        .write("--json", &args.change.json)
        .check()?;
    check_new(&paths, args.force)?;
    let set = open(&args.file, &args.change)?;
    let divided = split(set, &SplitOptions { parts, grouping, seed: args.seed }).map_err(of_sets)?;
    for (path, part) in paths.iter().zip(&divided.parts) {
        write(path, part)?;
    }
    let report = &divided.report;
    report.warnings.iter().for_each(|text| note!("warning: {text}"));
    let mut value = serde_json::to_value(report)?;
    for (part, path) in value["parts"].as_array_mut().into_iter().flatten().zip(&paths) {
        part["file"] = json!(path);
    }
    output::emit::<Value>(args.change.json.as_deref(), &value, &report.to_string())?;
    Ok(DONE)
}
