//! `foveal eval`: evaluates a checkpoint.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use foveal_coco::{CategoryInfo, CocoDetection, LabelMap, read_results, write_results};
use foveal_data::{Dataset, Source};
use foveal_detector::{Checkpoint, ComputePrecision};
use foveal_train::{Evaluation, Evaluator, MeanLosses, RunConfig};
use serde_json::json;

use super::analysis::{Other, Report, analyse, save_thresholds, size_bands};
use super::{crops, interrupt};
use crate::args::{Common, EvalArgs};
use crate::config::checkpoint::{OPEN_TO_EVAL, apply_checkpoint, refuse_closed};
use crate::config::{self, Origin};
use crate::console::note;
use crate::failure::{DONE, INTERRUPTED};
use crate::outputs::Files;
use crate::progress::Console;
use crate::{device, output, precision};

/// The name of the folder of checkpoints in a run directory.
const CHECKPOINTS: &str = "checkpoints";

/// Evaluates a checkpoint, prints COCO metrics and losses, and says where the detections are right and wrong.
///
/// # Errors
/// If the checkpoint or the data cannot be read, they have different categories, or a file cannot be written.
pub(super) fn run(args: &EvalArgs, common: &Common) -> Result<u8> {
    refuse_closed(&common.set, &OPEN_TO_EVAL)?;
    let asked = &args.analysis;
    size_bands(asked)?;
    let other = asked.compare.as_deref().map(Other::of).transpose()?;
    let picked = device::pick(&common.device)?;
    let precision = precision::supported(args.precision, &picked.device)?;
    let checkpoint = Checkpoint::load(&args.checkpoint, &picked.device)?;
    let run = run_config(&args.checkpoint);
    let config = configuration(args, common, &checkpoint, run.as_deref())?;
    let inputs = Files::new().read("checkpoint", [&args.checkpoint]).read("configuration", &run).read_config(&config);
    let inputs = inputs.read("file to compare with", other.as_ref().map(Other::path));
    let crops = crops::files(asked.crops.as_deref());
    let inputs = inputs.write("--json", &args.json).write("--coco", &args.coco).write("--save", &asked.save);
    inputs.write("--crops", &crops).check()?;
    let stop = interrupt::flag()?;
    let evaluate = |path: &Path, checkpoint: &Checkpoint, config: &RunConfig| {
        evaluate(path, checkpoint, config, &picked.device, precision, &stop)
    };
    let Some(evaluated) = evaluate(&args.checkpoint, &checkpoint, &config)? else {
        return Ok(INTERRUPTED);
    };
    let Evaluated { evaluation, dataset, unreadable } = evaluated;
    let mut left_out_images: HashSet<i64> = evaluation.left_out_images.iter().copied().collect();
    let other = match &other {
        None => None,
        Some(Other::Results(path)) => Some(read_results(path)?),
        Some(Other::Checkpoint(path)) => {
            let checkpoint = Checkpoint::load(path, &picked.device)?;
            let Some(other) = evaluate(path, &checkpoint, &of_other(&config, &checkpoint, path, common)?)? else {
                return Ok(INTERRUPTED);
            };
            left_out_images.extend(&other.evaluation.left_out_images);
            Some(other.evaluation.detections)
        }
    };
    if !evaluation.metrics.is_defined() {
        note!("warning: the metrics are undefined, because the data set has no objects");
    }
    if let Some(path) = &args.coco {
        output::create_parent(path)?;
        write_results(path, &evaluation.detections)?;
    }
    let mut report = Report::default();
    if asked.wanted() {
        let on_images = |detections: &[CocoDetection]| -> Vec<CocoDetection> {
            detections.iter().filter(|found| !left_out_images.contains(&found.image_id)).copied().collect()
        };
        let other = other.as_deref().map(on_images);
        let truth = dataset.coco_without(&left_out_images);
        report = analyse(asked, &truth, &on_images(&evaluation.detections), other.as_deref())?;
    }
    report.write_crops(asked, &dataset)?;
    if let (Some(path), Some(thresholds)) = (&asked.save, &report.thresholds) {
        save_thresholds(&args.checkpoint, thresholds, path)?;
    }
    let MeanLosses { class, boxes, total } = evaluation.losses;
    let mut metrics = evaluation.metrics.to_json();
    metrics["losses"] = json!({"class": class, "box": boxes, "total": total});
    let left_out = unreadable + evaluation.left_out;
    (metrics["images"], metrics["left_out"]) = (evaluation.images.into(), left_out.into());
    if let Some(metrics) = metrics.as_object_mut() {
        metrics.extend(report.json);
    }
    let without = if left_out > 0 { format!(", without {left_out} that cannot be read") } else { String::new() };
    // The table of the analysis has the columns of the plain one and more.
    let metrics_text =
        if asked.wanted() { evaluation.metrics.summary() } else { format!("{}\n", evaluation.metrics.table()) };
    let table = format!(
        "{metrics_text} losses: class {class:.4}, box {boxes:.4}, total {total:.4}\n images: {}{without}\n{}",
        evaluation.images, report.text
    );
    output::emit(args.json.as_deref(), &metrics, &table)?;
    Ok(DONE)
}

/// An evaluated checkpoint.
struct Evaluated {
    evaluation: Evaluation,
    dataset: Arc<Dataset>,
    /// Number of images that the check of the data set left out.
    unreadable: usize,
}

/// Evaluates a checkpoint on the validation set of a configuration; `None` if it was interrupted.
///
/// # Errors
/// If the data cannot be read or has other categories than the checkpoint.
fn evaluate(
    path: &Path,
    checkpoint: &Checkpoint,
    config: &RunConfig,
    device: &Device,
    precision: ComputePrecision,
    stop: &AtomicBool,
) -> Result<Option<Evaluated>> {
    let labels = LabelMap::new(checkpoint.meta.categories.clone())?;
    let opened = config.data.open_val_with(Some(&labels))?;
    if !opened.report.is_clean() {
        note!("warning: {}: {}", opened.report.set, opened.report.summary());
    }
    let unreadable = opened.report.unreadable_images();
    let dataset = Arc::new(opened.dataset);
    same_categories(path, &checkpoint.meta.categories, dataset.label_map().categories())?;
    let mut console = Console::new();
    let evaluator = Evaluator::new(config, &checkpoint.meta.model, Arc::clone(&dataset), device);
    let evaluation = evaluator.with_precision(precision).run(&checkpoint.model, &mut console, stop)?;
    Ok(evaluation.map(|evaluation| Evaluated { evaluation, dataset, unreadable }))
}

/// The images of a folder with their annotations.
///
/// # Errors
/// If the annotations or the images cannot be used.
pub(super) fn data_set(annotations: &Path, images: &Path) -> Result<Dataset> {
    Ok(on_data(annotations, images).data.open_val_with(None)?.dataset)
}

/// The default configuration with these data as validation set.
fn on_data(annotations: &Path, images: &Path) -> RunConfig {
    let mut base = RunConfig::default();
    base.data.source = Source::Coco;
    base.data.val.annotations = Some(annotations.to_owned());
    base.data.val.images = Some(images.to_owned());
    base
}

/// The detections of a checkpoint on the images of an annotation file and their folder; `None` if the evaluation was
/// interrupted.
///
/// # Errors
/// If the checkpoint or the data cannot be read, or they have different categories.
pub(super) fn detections_on(
    path: &Path,
    annotations: &Path,
    images: &Path,
    common: &Common,
) -> Result<Option<Vec<CocoDetection>>> {
    refuse_closed(&common.set, &OPEN_TO_EVAL)?;
    let picked = device::pick(&common.device)?;
    let checkpoint = Checkpoint::load(path, &picked.device)?;
    let config = of_other(&on_data(annotations, images), &checkpoint, path, common)?;
    let stop = interrupt::flag()?;
    let evaluated = evaluate(path, &checkpoint, &config, &picked.device, ComputePrecision::F32, &stop)?;
    Ok(evaluated.map(|evaluated| evaluated.evaluation.detections))
}

/// The configuration of another checkpoint on the data of `config`.
fn of_other(config: &RunConfig, checkpoint: &Checkpoint, path: &Path, common: &Common) -> Result<RunConfig> {
    let mut base = config.clone();
    apply_checkpoint(&mut base, &checkpoint.meta)?;
    let layer = config::layer_of(&base, Origin::Checkpoint(path.to_owned()))?;
    config::with_sets(vec![layer], &common.set).context("cannot evaluate")
}

/// The configuration file of the run in whose folder `checkpoints` the checkpoint is, if it is in one. A `config.toml`
/// above a folder with another name is any program's.
fn run_config(checkpoint: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(checkpoint).ok()?;
    let folder = path.parent().filter(|folder| folder.file_name().is_some_and(|name| name == CHECKPOINTS))?;
    Some(folder.parent()?.join("config.toml")).filter(|path| path.is_file())
}

/// The configuration of the checkpoint's run, else the defaults; overridden by the values of the checkpoint, then by the
/// command line. If the command line names the data, a configuration of the run that cannot be used is left out with a
/// warning: it would only give settings such as the matcher and the batch size.
fn configuration(args: &EvalArgs, common: &Common, checkpoint: &Checkpoint, run: Option<&Path>) -> Result<RunConfig> {
    let mut base = match run.map(|path| config::load(Some(path), &[])) {
        Some(Err(error)) if args.annotations.is_some() => {
            note!("warning: {error:#}; evaluating with the checkpoint's settings and the defaults");
            RunConfig::default()
        }
        Some(loaded) => loaded?,
        None => RunConfig::default(),
    };
    apply_checkpoint(&mut base, &checkpoint.meta)?;
    if let (Some(annotations), Some(images)) = (&args.annotations, &args.images) {
        base.data.source = Source::Coco;
        base.data.val.annotations = Some(annotations.clone());
        base.data.val.images = Some(images.clone());
    }
    let names_data = args.annotations.is_some() || common.set.iter().any(|set| set.starts_with("data."));
    if run.is_none() && !names_data {
        bail!(
            "{} is not in a run directory, so its validation set is unknown: pass --annotations and --images",
            args.checkpoint.display()
        );
    }
    let layer = config::layer_of(&base, Origin::Checkpoint(args.checkpoint.clone()))?;
    config::with_sets(vec![layer], &common.set).context("cannot evaluate")
}

/// Checks that the data has the categories of the checkpoint.
///
/// # Errors
/// If it has others; the error lists both.
fn same_categories(path: &Path, expected: &[CategoryInfo], found: &[CategoryInfo]) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let listing = |categories: &[CategoryInfo]| {
        let shown: Vec<String> = categories.iter().take(6).map(|c| format!("{} {}", c.id, c.name)).collect();
        let more = if categories.len() > shown.len() { ", …" } else { "" };
        format!("{} ({}{more})", categories.len(), shown.join(", "))
    };
    bail!(
        "the categories of the data differ from those of {}: expected {}, found {}",
        path.display(),
        listing(expected),
        listing(found)
    )
}
