//! `foveal score`: computes the COCO metrics of a results file.

use std::path::Path;

use anyhow::{Result, bail};
use foveal_coco::{CocoDetection, read_results};
use foveal_eval::{ScoredFiles, score_files};

use super::analysis::{Other, Report, analyse, save_thresholds, size_bands};
use super::{crops, eval};
use crate::args::{Common, ScoreArgs};
use crate::console::note;
use crate::failure::{DONE, INTERRUPTED, Usage};
use crate::output;
use crate::outputs::Files;

/// Computes and prints the COCO metrics of a results file, and says where the detections are right and wrong.
///
/// # Errors
/// If a file cannot be read or written, or the results do not match the annotations.
pub(super) fn run(args: &ScoreArgs, common: &Common) -> Result<u8> {
    let asked = &args.analysis;
    size_bands(asked)?;
    if asked.save.is_some() && args.checkpoint.is_none() {
        return Err(Usage("--save: expected --checkpoint too, of which it writes a copy".to_owned()).into());
    }
    if asked.crops.is_some() && args.images.is_none() {
        return Err(Usage("--crops: expected --images too, the folder of the images".to_owned()).into());
    }
    let other = asked.compare.as_deref().map(Other::of).transpose()?;
    let inputs = Files::new().read("annotation file", [&args.annotations]).read("results file", [&args.detections]);
    let inputs =
        inputs.read("file to compare with", other.as_ref().map(Other::path)).read("checkpoint", &args.checkpoint);
    let (inputs, crops) = (inputs.read_images(&args.images), crops::files(asked.crops.as_deref()));
    inputs.write("--json", &args.json).write("--save", &asked.save).write("--crops", &crops).check()?;
    let ScoredFiles { scored, times, ground_truth, detections } = score_files(&args.annotations, &args.detections)?;
    for note in scored.notes.iter().chain(&scored.near_zero) {
        note!("warning: {note}");
    }
    if !scored.metrics.is_defined() {
        note!("warning: the metrics are undefined, because the annotations have no objects; the JSON has COCO's -1");
    }
    if args.times {
        note!("read in {:.3} s, evaluated in {:.3} s", times.read.as_secs_f64(), times.evaluate.as_secs_f64());
    }
    let other = match &other {
        None => None,
        Some(Other::Results(path)) => Some(read_results(path)?),
        Some(Other::Checkpoint(path)) => match of_checkpoint(path, args, common)? {
            Some(detections) => Some(detections),
            None => return Ok(INTERRUPTED),
        },
    };
    let mut report = Report::default();
    if asked.wanted() {
        report = analyse(asked, &ground_truth, &detections, other.as_deref())?;
    }
    if let (Some(_), Some(images)) = (&asked.crops, &args.images) {
        report.write_crops(asked, &eval::data_set(&args.annotations, images)?)?;
    }
    if let (Some(path), Some(checkpoint), Some(thresholds)) = (&asked.save, &args.checkpoint, &report.thresholds) {
        save_thresholds(checkpoint, thresholds, path)?;
    }
    let mut json = scored.metrics.to_json();
    if let Some(json) = json.as_object_mut() {
        json.extend(report.json);
    }
    // The table of the analysis has the columns of the plain one and more.
    let table = if asked.wanted() { scored.metrics.summary() + &report.text } else { scored.metrics.table() };
    output::emit(args.json.as_deref(), &json, &table)?;
    Ok(DONE)
}

/// The detections of a checkpoint on the images of the annotation file; `None` if the evaluation was interrupted.
fn of_checkpoint(path: &Path, args: &ScoreArgs, common: &Common) -> Result<Option<Vec<CocoDetection>>> {
    let Some(images) = &args.images else {
        bail!("--compare {}: expected --images too, the folder of the images", path.display());
    };
    eval::detections_on(path, &args.annotations, images, common)
}
