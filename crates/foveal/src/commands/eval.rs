//! `foveal eval`: evaluates a checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use foveal_coco::{CategoryInfo, LabelMap, write_results};
use foveal_data::Source;
use foveal_detector::Checkpoint;
use foveal_train::{Evaluator, MeanLosses, RunConfig};
use serde_json::json;

use super::interrupt;
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

/// Evaluates a checkpoint and prints COCO metrics and losses.
///
/// # Errors
/// If the checkpoint or the data cannot be read, they have different categories, or a file cannot be written.
pub(super) fn run(args: &EvalArgs, common: &Common) -> Result<u8> {
    refuse_closed(&common.set, &OPEN_TO_EVAL)?;
    let picked = device::pick(&common.device)?;
    let precision = precision::supported(args.precision, &picked.device)?;
    let checkpoint = Checkpoint::load(&args.checkpoint, &picked.device)?;
    let run = run_config(&args.checkpoint);
    let config = configuration(args, common, &checkpoint, run.as_deref())?;
    let inputs = Files::new().read("checkpoint", [&args.checkpoint]).read("configuration", &run).read_config(&config);
    inputs.write("--json", &args.json).write("--coco", &args.coco).check()?;
    let labels = LabelMap::new(checkpoint.meta.categories.clone())?;
    let opened = config.data.open_val_with(Some(&labels))?;
    if !opened.report.is_clean() {
        note!("warning: {}: {}", opened.report.set, opened.report.summary());
    }
    let unreadable = opened.report.unreadable_images();
    let dataset = Arc::new(opened.dataset);
    same_categories(&args.checkpoint, &checkpoint.meta.categories, dataset.label_map().categories())?;
    let stop = interrupt::flag()?;
    let mut console = Console::new();
    let evaluator = Evaluator::new(&config, &checkpoint.meta.model, dataset, &picked.device).with_precision(precision);
    let Some(evaluation) = evaluator.run(&checkpoint.model, &mut console, &stop)? else {
        return Ok(INTERRUPTED);
    };
    drop(console);
    if !evaluation.metrics.is_defined() {
        note!("warning: the metrics are undefined, because the data set has no objects");
    }
    if let Some(path) = &args.coco {
        output::create_parent(path)?;
        write_results(path, &evaluation.detections)?;
    }
    let MeanLosses { class, boxes, total } = evaluation.losses;
    let mut metrics = evaluation.metrics.to_json();
    metrics["losses"] = json!({"class": class, "box": boxes, "total": total});
    let left_out = unreadable + evaluation.left_out;
    (metrics["images"], metrics["left_out"]) = (evaluation.images.into(), left_out.into());
    let without = if left_out > 0 { format!(", without {left_out} that cannot be read") } else { String::new() };
    let table = format!(
        "{}\n losses: class {class:.4}, box {boxes:.4}, total {total:.4}\n images: {}{without}\n",
        evaluation.metrics.table(),
        evaluation.images
    );
    output::emit(args.json.as_deref(), &metrics, &table)?;
    Ok(DONE)
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
