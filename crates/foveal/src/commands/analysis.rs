//! The analysis of detections that `foveal eval` and `foveal score` print and write.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Device;
use foveal_coco::{CocoDataset, CocoDetection};
use foveal_data::Dataset;
use foveal_detector::{Checkpoint, CheckpointMeta};
use foveal_eval::{
    Analyzer, CONFIDENCE, ClassColumn, LabelError, OperatingPoint, SizeBand, ThresholdRule, columns, evaluate,
    interval_table,
};
use serde_json::{Map, Value, json};

use super::crops;
use crate::analysis_args::AnalysisArgs;
use crate::console::note;
use crate::failure::Usage;
use crate::output;
use crate::resamples::{COMPARED, draw};

/// Decimal places of the curves in JSON.
const CURVE_DIGITS: i32 = 6;

/// What `--compare` names.
pub(super) enum Other {
    /// A COCO results file.
    Results(PathBuf),
    /// A checkpoint; that of a run directory is its best one, or the last one if none is the best.
    Checkpoint(PathBuf),
}

impl Other {
    /// Finds out what a path is.
    ///
    /// # Errors
    /// If it is a folder that contains no checkpoint of a run.
    pub(super) fn of(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let checkpoint = path.extension().is_some_and(|extension| extension == "safetensors");
            return Ok(if checkpoint { Self::Checkpoint(path.to_owned()) } else { Self::Results(path.to_owned()) });
        }
        let found = checkpoint_of_run(path).with_context(|| {
            format!(
                "--compare {}: expected a run directory, found no checkpoints/best.safetensors in it",
                path.display()
            )
        })?;
        Ok(Self::Checkpoint(found))
    }

    /// The file that is read.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Results(path) | Self::Checkpoint(path) => path,
        }
    }
}

/// The best checkpoint of a run directory, or the last one if none is the best; `None` if there is neither.
pub(super) fn checkpoint_of_run(folder: &Path) -> Option<PathBuf> {
    let found = ["best", "last"].map(|name| folder.join(format!("checkpoints/{name}.safetensors")));
    found.into_iter().find(|checkpoint| checkpoint.is_file())
}

/// The size bands of `--size-bands`.
///
/// # Errors
/// [`Usage`] if the limits are not positive or do not ascend.
pub(super) fn size_bands(args: &AnalysisArgs) -> Result<Vec<SizeBand>, Usage> {
    let sides = &args.size_bands;
    let positive = sides.iter().all(|side| side.is_finite() && *side > 0.0);
    if !positive || !sides.is_sorted_by(|a, b| a < b) {
        let text =
            format!("--size-bands {sides:?}: expected positive sides in pixels in ascending order, such as 16,64");
        return Err(Usage(text));
    }
    Ok(if sides.is_empty() { Vec::new() } else { SizeBand::between(sides) })
}

/// The result of an analysis; empty if no option asks for one.
#[derive(Default)]
pub(super) struct Report {
    /// New keys of the JSON.
    pub json: Map<String, Value>,
    /// Tables for the terminal.
    pub text: String,
    /// Annotations that are probably wrong, if `--label-errors` asks for them.
    pub label_errors: Vec<LabelError>,
    /// A score threshold for each category, in ascending order of the ids, if `--thresholds` asks for them.
    pub thresholds: Option<Vec<(i64, Option<OperatingPoint>)>>,
}

/// Analyses detections, and compares them with `other` detections of the same images.
///
/// # Errors
/// If a value is wrong, or the detections do not fit the ground truth.
pub(super) fn analyse(
    args: &AnalysisArgs,
    truth: &CocoDataset,
    detections: &[CocoDetection],
    other: Option<&[CocoDetection]>,
) -> Result<Report> {
    let bands = size_bands(args)?;
    let analyzer = Analyzer::new(truth, detections, &bands)?;
    let analysis = analyzer.analysis();
    let mut text = analysis.table(args.sort.map_or(ClassColumn::Id, ClassColumn::from));
    let mut json = match serde_json::to_value(&analysis)? {
        Value::Object(json) => json,
        _ => Map::new(),
    };
    if let Some(curves) = json.get_mut("curves") {
        round(curves);
    }
    if args.label_errors {
        text += &analysis.label_error_table();
    } else {
        json.remove("label_errors");
    }
    let count = args.intervals.or(other.map(|_| COMPARED));
    if let Some(count) = count {
        let head = |what: &str| format!("{what}, {:.0} % interval of {count} resamples", 100.0 * CONFIDENCE);
        let resamples = analyzer.resamples(count as usize, draw(analyzer.images()));
        let intervals = resamples.intervals();
        text += &interval_table(&head("metric"), resamples.names(), &intervals);
        let described = |values: Value| json!({"resamples": count, "confidence": CONFIDENCE, "metrics": values});
        json.insert("intervals".to_owned(), described(resamples.to_json(&intervals)));
        if let Some(other) = other {
            let metrics = evaluate(truth, other).context("cannot compare with the other detections")?;
            let other = Analyzer::new(truth, other, &bands)?;
            let others = other.resamples(count as usize, draw(other.images()));
            let differences = resamples.minus(&others);
            text += &interval_table(&head("difference to the other"), resamples.names(), &differences);
            let mut compared = described(resamples.to_json(&differences));
            if let Some(difference) = compared.as_object_mut().and_then(|all| all.remove("metrics")) {
                compared["difference"] = difference;
            }
            compared["other"] = metrics.to_json();
            json.insert("compare".to_owned(), compared);
        }
    }
    let thresholds = args.thresholds.map(|rule| {
        let thresholds = analyzer.thresholds(rule);
        let (name, each) = (rule_name(rule), threshold_json(&thresholds));
        json.insert("thresholds".to_owned(), json!({"rule": name, "per_category": each}));
        text += &threshold_table(&name, truth, &thresholds);
        thresholds
    });
    let label_errors = if args.label_errors { analysis.label_errors } else { Vec::new() };
    Ok(Report { json, text, label_errors, thresholds })
}

impl Report {
    /// Writes crops of the likely label errors if `--crops` asks for them, and adds their names to the JSON as the key
    /// `crop`.
    ///
    /// # Errors
    /// If the folder or a file cannot be written.
    pub(super) fn write_crops(&mut self, args: &AnalysisArgs, dataset: &Dataset) -> Result<()> {
        let Some(folder) = &args.crops else { return Ok(()) };
        let names = crops::write(&self.label_errors, dataset, folder)?;
        if let Some(Value::Array(errors)) = self.json.get_mut("label_errors") {
            errors.iter_mut().zip(names).for_each(|(error, name)| error["crop"] = json!(name));
        }
        Ok(())
    }
}

fn rule_name(rule: ThresholdRule) -> String {
    match rule {
        ThresholdRule::BestF1 => "best-f1".to_owned(),
        ThresholdRule::Precision(precision) => format!("precision={precision}"),
    }
}

fn threshold_json(thresholds: &[(i64, Option<OperatingPoint>)]) -> Map<String, Value> {
    thresholds.iter().map(|(id, point)| (id.to_string(), json!(point))).collect()
}

fn threshold_table(rule: &str, truth: &CocoDataset, thresholds: &[(i64, Option<OperatingPoint>)]) -> String {
    let name = |id: i64| {
        let category = truth.categories.iter().find(|category| category.id == id);
        category.map_or_else(String::new, |category| foveal_base::printable(&category.name).into_owned())
    };
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    let mut rows =
        vec![[format!("threshold by {rule}").as_str(), "score", "precision", "recall"].map(str::to_owned).to_vec()];
    rows.extend(thresholds.iter().map(|(id, point)| {
        let values = [point.map(|p| p.threshold), point.map(|p| p.precision), point.map(|p| p.recall)];
        [name(*id)].into_iter().chain(values.map(number)).collect()
    }));
    format!("\n{}", columns(&rows, 1))
}

/// Rounds all numbers in a JSON value that are not integers to [`CURVE_DIGITS`] decimal places.
fn round(value: &mut Value) {
    let unit = 10f64.powi(CURVE_DIGITS);
    match value {
        Value::Array(values) => values.iter_mut().for_each(round),
        Value::Object(values) => values.values_mut().for_each(round),
        Value::Number(number) if number.is_f64() => {
            if let Some(number) = number.as_f64() {
                *value = json!((number * unit).round() / unit);
            }
        }
        _ => {}
    }
}

/// Writes a copy of a checkpoint with a score threshold for each class. A class for which none satisfies the rule keeps
/// its threshold, with a warning.
///
/// # Errors
/// If the checkpoint cannot be read, has other categories, or the copy cannot be written.
pub(super) fn save_thresholds(
    checkpoint: &Path,
    thresholds: &[(i64, Option<OperatingPoint>)],
    path: &Path,
) -> Result<()> {
    let Checkpoint { mut meta, model } = Checkpoint::load(checkpoint, &Device::flex())?;
    meta.class_thresholds = class_thresholds(&meta, thresholds)
        .with_context(|| format!("cannot write the thresholds into {}", checkpoint.display()))?;
    // The threshold of all classes must not be above that of a class.
    meta.post.score_threshold = meta.class_thresholds.iter().copied().fold(meta.post.score_threshold, f32::min);
    output::create_parent(path)?;
    meta.save(&model, path)?;
    Ok(())
}

/// The thresholds in the order of the checkpoint's classes. A detection must have a higher score than its threshold, so
/// the threshold is the number below the lowest score that is kept.
fn class_thresholds(meta: &CheckpointMeta, thresholds: &[(i64, Option<OperatingPoint>)]) -> Result<Vec<f32>> {
    let of_class = |(class, category): (usize, &foveal_coco::CategoryInfo)| {
        let (_, point) = thresholds.iter().find(|(id, _)| *id == category.id).with_context(|| {
            format!("expected the categories of the checkpoint, found none with id {} ({})", category.id, category.name)
        })?;
        let before = meta.class_thresholds.get(class).copied().unwrap_or(meta.post.score_threshold);
        if point.is_none() {
            note!("warning: no score threshold of class {} satisfies the rule; it remains {before}", category.name);
        }
        Ok(point.map_or(before, |point| (point.threshold as f32).next_down().clamp(0.0, 1.0)))
    };
    meta.categories.iter().enumerate().map(of_class).collect()
}
