//! `foveal score`.

use anyhow::Result;
use foveal_eval::score_files;

use crate::args::ScoreArgs;
use crate::failure::DONE;
use crate::output;

/// COCO figures of a results file.
///
/// # Errors
/// Files that cannot be read or do not fit each other.
pub fn run(args: &ScoreArgs) -> Result<u8> {
    let scored = score_files(&args.annotations, &args.detections)?;
    for note in &scored.notes {
        eprintln!("{note}");
    }
    output::emit(args.json.as_deref(), &scored.metrics.to_json(), &scored.metrics.table())?;
    Ok(DONE)
}
