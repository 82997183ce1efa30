//! `foveal data`: checks, describes, shows, converts and generates data sets.

mod convert;
mod merge;
mod remap;
mod sets;
mod show;
mod split;
mod subset;
mod tile;

use std::path::Path;

use anyhow::{Context, Result, bail};
use foveal_data::{Opened, Part, Source, Stats, join_sets, write_shapes};
use foveal_train::RunConfig;
use serde_json::{Map, Value};

use crate::args::{CheckArgs, Common, DataCommand, DataSetArgs, SplitArg};
use crate::config::{self, Loaded};
use crate::console::note;
use crate::failure::{DONE, FAILED};
use crate::output;
use crate::outputs::Files;

/// Runs a subcommand of `foveal data` and returns its exit code.
///
/// # Errors
/// If the configuration or the data cannot be used, or a file cannot be written.
pub(super) fn run(command: DataCommand, common: &Common) -> Result<u8> {
    match command {
        DataCommand::Check(args) => check(&args, common),
        DataCommand::Stats(args) => stats(&args, common),
        DataCommand::Show(args) => show::run(&args, common),
        DataCommand::Convert(command) => convert::run(&command),
        DataCommand::Shapes { out } => shapes(&out, common),
        DataCommand::Sets(command) => sets::run(command, common),
    }
}

/// Number of images from which they are decoded only with `--decode`, because that takes minutes.
const DECODED_BELOW: usize = 2000;

/// Lists the problems of the data sets. Returns [`FAILED`] if a run with `on_error = "fail"` would stop on one of them.
fn check(args: &CheckArgs, common: &Common) -> Result<u8> {
    let mut sets = open(&args.set, common, false)?;
    let images: usize = sets.iter().map(|(_, opened)| opened.dataset.len()).sum();
    if args.decode || (!args.no_decode && images < DECODED_BELOW) {
        sets.iter_mut().for_each(|(_, opened)| opened.decode_images());
    } else {
        note!("the pixels of the {images} images were not checked; --decode decodes every image");
    }
    let mut text = String::new();
    let mut reports = Map::new();
    let mut errors = 0;
    for (name, opened) in sets {
        text += &format!("{}\n", opened.report);
        errors += opened.report.errors();
        reports.insert(name, serde_json::to_value(&opened.report)?);
    }
    output::emit(args.set.json.as_deref(), &Value::Object(reports), &text)?;
    Ok(if errors > 0 { FAILED } else { DONE })
}

fn stats(args: &DataSetArgs, common: &Common) -> Result<u8> {
    let mut text = String::new();
    let mut all = Map::new();
    for (name, opened) in open(args, common, true)? {
        if !opened.report.is_clean() {
            note!("warning: {name}: {}", opened.report.summary());
        }
        let stats = Stats::of(&opened.dataset);
        let gap = if text.is_empty() { "" } else { "\n" };
        text += &format!("{gap}{name}: {stats}\n");
        all.insert(name, serde_json::to_value(&stats)?);
    }
    output::emit(args.json.as_deref(), &Value::Object(all), &text)?;
    Ok(DONE)
}

/// Opens the selected data sets with their names, without broken images and boxes. Each set of a training set of several
/// is one of them; with `together`, the whole training set is one too.
fn open(args: &DataSetArgs, common: &Common, together: bool) -> Result<Vec<(String, Opened)>> {
    let Loaded { mut config, files } = config::open(args.config.as_deref(), &common.set)?;
    let named = Files::new().read("configuration", &files).read("annotation file", &args.annotations);
    named.read_images(&args.images).read_config(&config).write("--json", &args.json).check()?;
    if let Some(annotations) = &args.annotations {
        let Some(images) = &args.images else {
            note!("the image files are not read; --images DIR names their folder");
            return Ok(vec![("set".to_owned(), config.data.inspect_annotations(annotations)?)]);
        };
        config.data.source = Source::Coco;
        config.data.val.annotations = Some(annotations.clone());
        config.data.val.images = Some(images.clone());
        return Ok(vec![("set".to_owned(), config.data.inspect_val(None)?)]);
    }
    if args.split == Some(SplitArg::Val) {
        let labels = config.data.training_labels()?;
        return Ok(vec![("val".to_owned(), config.data.inspect_val(labels.as_ref())?)]);
    }
    let train = config.data.inspect_train_sets()?;
    let all = (together && train.len() > 1).then(|| join_sets(train.clone()));
    let mut sets: Vec<(String, Opened)> = train.into_iter().map(|set| (name_of(&set.part), set.opened)).collect();
    sets.extend(all.map(|all| ("train_all".to_owned(), all)));
    if args.split.is_none() && names_val(&config) {
        let labels = sets[0].1.dataset.label_map();
        let val = config.data.inspect_val(Some(labels))?;
        sets.push(("val".to_owned(), val));
    }
    Ok(sets)
}

/// The name of a set of the training: `train`, or the key of a further set without its section.
fn name_of(part: &Part) -> String {
    match part.key.as_str() {
        "data.shapes" => "train".to_owned(),
        key => key.strip_prefix("data.").unwrap_or(key).to_owned(),
    }
}

/// Whether the configuration has a validation set. Configurations that are used only with `--overfit` need none.
fn names_val(config: &RunConfig) -> bool {
    config.data.source != Source::Coco || config.data.val.annotations.is_some()
}

fn shapes(out: &Path, common: &Common) -> Result<u8> {
    let config = config::load(None, &common.set)?;
    let taken = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    if taken {
        bail!("{}: the folder exists and is not empty; expected a new or empty folder", out.display());
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot create the folder {}", out.display()))?;
    let shapes = &config.data.shapes;
    write_shapes(shapes, out)?;
    note!("{}: {} training and {} validation images", out.display(), shapes.count, shapes.val_count);
    Ok(DONE)
}
