//! `foveal eval`: evaluates a checkpoint.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use foveal_coco::{CategoryInfo, CocoDetection, LabelMap, read_results, write_results};
use foveal_data::{DataConfig, Dataset, Source};
use foveal_detector::{Checkpoint, ComputePrecision};
use foveal_eval::{Check, Explanation};
use foveal_train::{Evaluation, Evaluator, MeanLosses, RunConfig, Silent};
use serde_json::json;

use super::analysis::{Other, Report, analyse, checkpoint_of_run, save_thresholds, size_bands};
use super::explain::{self, RunFolder, Subject};
use super::{crops, interrupt};
use crate::args::{AnalysisArgs, Common, EvalArgs};
use crate::config::checkpoint::{OPEN_TO_EVAL, apply_checkpoint, refuse_closed};
use crate::config::{self, Origin};
use crate::console::note;
use crate::failure::{DONE, INTERRUPTED};
use crate::outputs::Files;
use crate::progress::Console;
use crate::{device, output, precision};

/// The name of the folder of checkpoints in a run directory.
const CHECKPOINTS: &str = "checkpoints";

/// Evaluates a checkpoint, prints COCO metrics and losses, and says where the detections are right and wrong, and why.
///
/// # Errors
/// If the checkpoint or the data cannot be read, they have different categories, or a file cannot be written. With
/// `--explain`, an evaluation that fails is a cause instead.
pub(super) fn run(args: &EvalArgs, common: &Common) -> Result<u8> {
    refuse_closed(&common.set, &OPEN_TO_EVAL)?;
    let asked = &args.analysis;
    size_bands(asked)?;
    let other = asked.compare.as_deref().map(Other::of).transpose()?;
    let path = match checkpoint(&args.checkpoint)? {
        Some(path) => path,
        None if asked.explain => return explain_unsaved(args),
        None => bail!(
            "{}: expected a checkpoint or a run directory, found a folder without checkpoints/best.safetensors and \
             checkpoints/last.safetensors",
            args.checkpoint.display()
        ),
    };
    let picked = device::pick(&common.device)?;
    let precision = precision::supported(args.precision, &picked.device)?;
    let checkpoint = Checkpoint::load(&path, &picked.device)?;
    let run = run_config(&path);
    let config = configuration(args, common, &path, &checkpoint, run.as_deref())?;
    let inputs = Files::new().read("checkpoint", [&path]).read("configuration", &run).read_config(&config);
    let inputs = inputs.read("file to compare with", other.as_ref().map(Other::path));
    let crops = crops::files(asked.crops.as_deref());
    let inputs = inputs.write("--json", &args.json).write("--coco", &args.coco).write("--save", &asked.save);
    inputs.write("--crops", &crops).check()?;
    let stop = interrupt::flag()?;
    let evaluate = |path: &Path, checkpoint: &Checkpoint, config: &RunConfig| {
        evaluate(path, checkpoint, config, &picked.device, precision, &stop)
    };
    let folder = run.as_deref().filter(|_| asked.explain).and_then(RunFolder::read);
    let mut failure = None;
    let evaluated = match evaluate(&path, &checkpoint, &config) {
        Err(error) if asked.explain => {
            let again = |config: &RunConfig| evaluate(&path, &checkpoint, config);
            let Some(rescued) = explain::rescue(&error, &config, &checkpoint.meta, again)? else {
                return Ok(INTERRUPTED);
            };
            let Some(evaluated) = rescued.evaluated else {
                let explanation = explain::without_evaluation(&config, folder.as_ref(), rescued.check)?;
                return emit_explanation(args.json.as_deref(), &explanation);
            };
            failure = Some(rescued.check);
            evaluated
        }
        evaluated => match evaluated? {
            Some(evaluated) => evaluated,
            None => return Ok(INTERRUPTED),
        },
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
    let mut report = analysis_of(asked, &evaluation, &dataset, &left_out_images, other.as_deref())?;
    report.write_crops(asked, &dataset)?;
    if let (Some(save), Some(thresholds)) = (&asked.save, &report.thresholds) {
        save_thresholds(&path, thresholds, save)?;
    }
    if asked.explain {
        let left_out = evaluation.left_out_images.iter().copied().collect();
        let subject = Subject {
            evaluation: &evaluation,
            dataset: &dataset,
            truth: &dataset.coco_without(&left_out),
            config: &config,
            meta: &checkpoint.meta,
            run: folder.as_ref(),
        };
        let mut explanation = explain::of_evaluation(&subject, |config| {
            let evaluator = Evaluator::new(config, &checkpoint.meta.model, Arc::clone(&dataset), &picked.device);
            Ok(evaluator.with_precision(precision).run(&checkpoint.model, &mut Silent, &stop)?)
        })?;
        explanation.add(failure);
        if stop.load(Ordering::Relaxed) {
            return Ok(INTERRUPTED);
        }
        let (json, text) = explain::output(&explanation)?;
        report.json.insert("explain".to_owned(), json);
        report.text += &text;
    }
    emit_metrics(args, &evaluation, unreadable, report)?;
    Ok(DONE)
}

/// The analysis that the options ask for, on the images that both sets of detections have.
///
/// # Errors
/// If a value is wrong, or the detections do not fit the ground truth.
fn analysis_of(
    asked: &AnalysisArgs,
    evaluation: &Evaluation,
    dataset: &Dataset,
    left_out: &HashSet<i64>,
    other: Option<&[CocoDetection]>,
) -> Result<Report> {
    if !asked.wanted() {
        return Ok(Report::default());
    }
    let on_images = |detections: &[CocoDetection]| -> Vec<CocoDetection> {
        detections.iter().filter(|found| !left_out.contains(&found.image_id)).copied().collect()
    };
    let other = other.map(on_images);
    analyse(asked, &dataset.coco_without(left_out), &on_images(&evaluation.detections), other.as_deref())
}

/// Prints and writes the metrics with the analysis.
///
/// # Errors
/// If a file or stdout cannot be written.
fn emit_metrics(args: &EvalArgs, evaluation: &Evaluation, unreadable: usize, report: Report) -> Result<()> {
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
        if args.analysis.wanted() { evaluation.metrics.summary() } else { format!("{}\n", evaluation.metrics.table()) };
    let table = format!(
        "{metrics_text} losses: class {class:.4}, box {boxes:.4}, total {total:.4}\n images: {}{without}\n{}",
        evaluation.images, report.text
    );
    output::emit(args.json.as_deref(), &metrics, &table)
}

/// The checkpoint that a path names: the file, or that of a run directory; `None` if a folder has none.
fn checkpoint(path: &Path) -> Result<Option<PathBuf>> {
    if !path.is_dir() {
        return Ok(Some(path.to_owned()));
    }
    Ok(checkpoint_of_run(path))
}

/// Explains a run that has not saved a checkpoint.
///
/// # Errors
/// If the folder is not that of a run.
fn explain_unsaved(args: &EvalArgs) -> Result<u8> {
    let settings = args.checkpoint.join("config.toml");
    if !settings.is_file() {
        bail!(
            "{}: expected a checkpoint or a run directory, found a folder without config.toml and checkpoints",
            args.checkpoint.display()
        );
    }
    let config = config::load(Some(&settings), &[])?;
    Files::new().read("configuration", [&settings]).write("--json", &args.json).check()?;
    let check = Check::found(
        "no_checkpoint",
        0.5,
        "The run has saved no checkpoint",
        "Train until the end of the first epoch, or look at how the run ended",
    );
    let explanation = explain::without_evaluation(&config, RunFolder::read(&settings).as_ref(), check)?;
    emit_explanation(args.json.as_deref(), &explanation)
}

/// Prints and writes an explanation without metrics.
///
/// # Errors
/// If a file or stdout cannot be written.
fn emit_explanation(json: Option<&Path>, explanation: &Explanation) -> Result<u8> {
    let (value, text) = explain::output(explanation)?;
    output::emit(json, &json!({"explain": value}), &text)?;
    Ok(DONE)
}

/// An evaluated checkpoint.
pub(super) struct Evaluated {
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

/// The images of a folder with their annotations, whose classes are those of `classes`.
///
/// # Errors
/// If the annotations or the images cannot be used.
pub(super) fn data_set(annotations: &Path, images: &Path, classes: &DataConfig) -> Result<Dataset> {
    Ok(on_data(annotations, images, classes).data.open_val()?.dataset)
}

/// The default configuration with these data as validation set, and with the training sets and `data.classes` of
/// `classes` if these give other classes to the annotations.
fn on_data(annotations: &Path, images: &Path, classes: &DataConfig) -> RunConfig {
    let mut base = RunConfig::default();
    if classes.maps_classes() {
        base.data.train = classes.train.clone();
        base.data.more_train = classes.more_train.clone();
        base.data.classes = classes.classes.clone();
    }
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
    (annotations, images): (&Path, &Path),
    classes: &DataConfig,
    common: &Common,
) -> Result<Option<Vec<CocoDetection>>> {
    refuse_closed(&common.set, &OPEN_TO_EVAL)?;
    let picked = device::pick(&common.device)?;
    let checkpoint = Checkpoint::load(path, &picked.device)?;
    let config = of_other(&on_data(annotations, images, classes), &checkpoint, path, common)?;
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

/// The configuration of the checkpoint's run, else the defaults; overridden by the values of the checkpoint, then by
/// the command line. If the command line names the data, a configuration of the run that cannot be used is left out
/// with a warning: it would only give settings such as the matcher and the batch size.
fn configuration(
    args: &EvalArgs,
    common: &Common,
    path: &Path,
    checkpoint: &Checkpoint,
    run: Option<&Path>,
) -> Result<RunConfig> {
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
            path.display()
        );
    }
    let layer = config::layer_of(&base, Origin::Checkpoint(path.to_owned()))?;
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
