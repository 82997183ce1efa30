//! `foveal score`: computes the COCO metrics of a results file.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use foveal_coco::{Annotation, CocoDataset, CocoDetection, read_results};
use foveal_data::DataConfig;
use foveal_eval::{EvalError, ScoreTimes, ScoredFiles, score, score_files};
use foveal_train::DETECTIONS;

use super::analysis::{Other, Report, analyse, save_thresholds, size_bands};
use super::{crops, eval, explain};
use crate::args::{Common, ScoreArgs};
use crate::config::{self, Loaded};
use crate::console::note;
use crate::failure::{DONE, INTERRUPTED, Usage};
use crate::output;
use crate::outputs::Files;

/// Computes and prints the COCO metrics of a results file, and says where the detections are right and wrong, and why.
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
    let (classes, files) = classes_of(args, common)?;
    let inputs = Files::new().read("annotation file", [&args.annotations]).read("results file", [&args.detections]);
    let inputs = inputs.read("configuration", &files).read("annotation file", classes.annotation_files());
    let inputs =
        inputs.read("file to compare with", other.as_ref().map(Other::path)).read("checkpoint", &args.checkpoint);
    let (inputs, crops) = (inputs.read_images(&args.images), crops::files(asked.crops.as_deref()));
    inputs.write("--json", &args.json).write("--save", &asked.save).write("--crops", &crops).check()?;
    let ScoredFiles { scored, times, ground_truth, detections } = match (asked.explain, classes.maps_classes()) {
        (true, _) => score_known(args, &classes)?,
        (false, true) => score_mapped(args, &classes)?,
        (false, false) => score_files(&args.annotations, &args.detections)?,
    };
    // The explanation has more than the warning.
    let near_zero = scored.near_zero.iter().filter(|_| !asked.explain);
    for note in scored.notes.iter().chain(near_zero) {
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
        Some(Other::Checkpoint(path)) => match of_checkpoint(path, args, &classes, common)? {
            Some(detections) => Some(detections),
            None => return Ok(INTERRUPTED),
        },
    };
    let mut report = Report::default();
    if asked.wanted() {
        let known = on_known_images(&ground_truth, &detections);
        report = analyse(asked, &finite(&ground_truth), &known, other.as_deref())?;
    }
    if let (Some(_), Some(images)) = (&asked.crops, &args.images) {
        report.write_crops(asked, &eval::data_set(&args.annotations, images, &classes)?)?;
    }
    if let (Some(path), Some(checkpoint), Some(thresholds)) = (&asked.save, &args.checkpoint, &report.thresholds) {
        save_thresholds(checkpoint, thresholds, path)?;
    }
    if asked.explain {
        let (json, text) = explain::output(&foveal_eval::explain(&ground_truth, &detections)?)?;
        report.json.insert("explain".to_owned(), json);
        report.text += &text;
    }
    let mut json = scored.metrics.to_json();
    if let Some(json) = json.as_object_mut() {
        json.extend(report.json);
    }
    // The table of the analysis has the columns of the plain one and more.
    let metrics = if asked.wanted() { scored.metrics.summary() } else { scored.metrics.table() };
    let table = metrics + &report.text;
    output::emit(args.json.as_deref(), &json, &table)?;
    Ok(DONE)
}

/// The `data` section of `--config`, whose classes the annotations get, and its files.
///
/// # Errors
/// [`Usage`] without the option if the detections are those of a run with other classes than its annotation files;
/// another error if a configuration cannot be used.
fn classes_of(args: &ScoreArgs, common: &Common) -> Result<(DataConfig, Vec<PathBuf>)> {
    if let Some(path) = &args.config {
        let Loaded { config, files } = config::open(Some(path), &common.set)?;
        return Ok((config.data, files));
    }
    let run = args.detections.with_file_name("config.toml");
    let of_run = args.detections.file_name().is_some_and(|name| name == DETECTIONS) && run.is_file();
    // A configuration that cannot be read has no say here.
    if of_run && config::load(Some(&run), &[]).is_ok_and(|config| config.data.maps_classes()) {
        return Err(Usage(format!(
            "--detections {}: the category ids are those of the classes of its run, which data.classes or \
             data.more_train gives other ids than the annotations have; pass --config {}",
            args.detections.display(),
            run.display()
        ))
        .into());
    }
    Ok((DataConfig::default(), Vec::new()))
}

/// The annotations, with the classes of a configuration.
///
/// # Errors
/// If a file cannot be read, or the classes of the training are not known.
fn truth(args: &ScoreArgs, classes: &DataConfig) -> Result<CocoDataset> {
    if !classes.maps_classes() {
        return Ok(CocoDataset::read(&args.annotations)?);
    }
    match classes.training_labels()? {
        Some(labels) => Ok(classes.mapped_annotations(&args.annotations, &labels)?),
        None => bail!(
            "the ids of the classes are unknown, because the file of data.train.annotations does not exist; expected \
             the training set of the configuration"
        ),
    }
}

/// Scores the detections against the annotations with the classes of a configuration.
///
/// # Errors
/// If a file cannot be read, or the detections cannot be evaluated.
fn score_mapped(args: &ScoreArgs, classes: &DataConfig) -> Result<ScoredFiles> {
    let started = Instant::now();
    let ground_truth = truth(args, classes)?;
    let detections = read_results(&args.detections)?;
    let read = started.elapsed();
    let scored = score(&ground_truth, &detections).map_err(|source| EvalError::Pair {
        annotations: args.annotations.clone(),
        detections: args.detections.clone(),
        source: Box::new(source),
    })?;
    let times = ScoreTimes { read, evaluate: started.elapsed() - read };
    Ok(ScoredFiles { scored, times, ground_truth, detections })
}

/// Scores the detections on images that the annotation file lists. Those on others, and annotations whose numbers are
/// not finite, are left out with a warning: they are explained.
///
/// # Errors
/// If a file cannot be read, or the detections cannot be evaluated.
fn score_known(args: &ScoreArgs, classes: &DataConfig) -> Result<ScoredFiles> {
    let started = Instant::now();
    let ground_truth = truth(args, classes)?;
    let detections = read_results(&args.detections)?;
    let read = started.elapsed();
    let known = on_known_images(&ground_truth, &detections);
    if known.len() < detections.len() {
        note!(
            "warning: {} of {} detections are on images that the annotations do not list, and are left out of the metrics",
            detections.len() - known.len(),
            detections.len()
        );
    }
    let scored = score(&finite(&ground_truth), &known)?;
    let times = ScoreTimes { read, evaluate: started.elapsed() - read };
    Ok(ScoredFiles { scored, times, ground_truth, detections })
}

/// The detections on images that the annotations list.
fn on_known_images(truth: &CocoDataset, detections: &[CocoDetection]) -> Vec<CocoDetection> {
    let known: HashSet<i64> = truth.images.iter().map(|image| image.id).collect();
    detections.iter().filter(|found| known.contains(&found.image_id)).copied().collect()
}

/// The annotations whose numbers are finite.
fn finite(truth: &CocoDataset) -> Cow<'_, CocoDataset> {
    let is_finite = |a: &Annotation| a.area.is_finite() && a.bbox.iter().all(|v| v.is_finite());
    if truth.annotations.iter().all(is_finite) {
        return Cow::Borrowed(truth);
    }
    let mut truth = truth.clone();
    truth.annotations.retain(is_finite);
    Cow::Owned(truth)
}

/// The detections of a checkpoint on the images of the annotation file; `None` if the evaluation was interrupted.
fn of_checkpoint(
    path: &Path,
    args: &ScoreArgs,
    classes: &DataConfig,
    common: &Common,
) -> Result<Option<Vec<CocoDetection>>> {
    let Some(images) = &args.images else {
        bail!("--compare {}: expected --images too, the folder of the images", path.display());
    };
    eval::detections_on(path, (&args.annotations, images), classes, common)
}
