//! `foveal score`: computes the COCO metrics of a results file.

use anyhow::Result;
use foveal_eval::score_files_timed;

use crate::args::ScoreArgs;
use crate::console::note;
use crate::failure::DONE;
use crate::output;
use crate::outputs::Files;

/// Computes and prints the COCO metrics of a results file.
///
/// # Errors
/// If a file cannot be read or written, or the results do not match the annotations.
pub(super) fn run(args: &ScoreArgs) -> Result<u8> {
    let inputs = Files::new().read("annotation file", [&args.annotations]).read("results file", [&args.detections]);
    inputs.write("--json", &args.json).check()?;
    let (scored, times) = score_files_timed(&args.annotations, &args.detections)?;
    for note in scored.notes.iter().chain(&scored.near_zero) {
        note!("warning: {note}");
    }
    if !scored.metrics.is_defined() {
        note!("warning: the metrics are undefined, because the annotations have no objects; the JSON has COCO's -1");
    }
    if args.times {
        note!("read in {:.3} s, evaluated in {:.3} s", times.read.as_secs_f64(), times.evaluate.as_secs_f64());
    }
    output::emit(args.json.as_deref(), &scored.metrics.to_json(), &scored.metrics.table())?;
    Ok(DONE)
}
