//! `foveal score`.

use anyhow::Result;
use foveal_eval::score_files_timed;

use crate::args::ScoreArgs;
use crate::failure::DONE;
use crate::output;

/// COCO figures of a results file.
///
/// # Errors
/// Files that cannot be read or do not fit each other.
pub fn run(args: &ScoreArgs) -> Result<u8> {
    let (scored, times) = score_files_timed(&args.annotations, &args.detections)?;
    for note in scored.notes.iter().chain(&scored.near_zero) {
        eprintln!("{note}");
    }
    if args.times {
        eprintln!("read in {:.3} s, evaluated in {:.3} s", times.read.as_secs_f64(), times.evaluate.as_secs_f64());
    }
    output::emit(args.json.as_deref(), &scored.metrics.to_json(), &scored.metrics.table())?;
    Ok(DONE)
}
