//! `foveal report`: writes a page about one run, or one that compares several.

use anyhow::Result;

use crate::args::ReportArgs;
use crate::console::note;
use crate::failure::DONE;
use crate::outputs::Files;
use crate::{output, report};

/// Writes the page.
///
/// # Errors
/// If a folder is not that of a run, or a file cannot be read or written.
pub(super) fn run(args: &ReportArgs) -> Result<u8> {
    let inputs: Vec<_> = args.runs.iter().flat_map(|root| report::inputs(root)).collect();
    Files::new().read("file of a run", &inputs).write("--output", [&args.output]).check()?;
    let page = report::report(&args.runs)?;
    for warning in &page.warnings {
        note!("warning: {warning}");
    }
    output::write_file(&args.output, page.html.as_bytes())?;
    Ok(DONE)
}
