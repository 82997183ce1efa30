//! `foveal data`: checks, describes, converts and generates data sets.

use std::path::Path;

use anyhow::{Context, Result, bail};
use foveal_data::{OnError, Opened, Source, Stats, VocOptions, convert_voc, write_shapes};
use foveal_train::RunConfig;
use serde_json::{Map, Value};

use crate::args::{CheckArgs, Common, ConvertCommand, DataCommand, DataSetArgs, SplitArg};
use crate::failure::{DONE, FAILED};
use crate::{config, output};

/// Runs a subcommand of `foveal data` and returns its exit code.
///
/// # Errors
/// If the configuration or the data cannot be used, or a file cannot be written.
pub(super) fn run(command: DataCommand, common: &Common) -> Result<u8> {
    match command {
        DataCommand::Check(args) => check(&args, common),
        DataCommand::Stats(args) => stats(&args, common),
        DataCommand::Convert(ConvertCommand::Voc { voc_dir, split, out, classes }) => {
            voc(&voc_dir, split, &out, classes)
        }
        DataCommand::Shapes { out } => shapes(&out, common),
    }
}

/// Number of images from which they are decoded only with `--decode`, because that takes minutes.
const DECODED_BELOW: usize = 2000;

/// Lists the problems of the data sets. Returns [`FAILED`] if a run with `on_error = "fail"` would stop on one of them.
fn check(args: &CheckArgs, common: &Common) -> Result<u8> {
    let mut sets = open(&args.set, common)?;
    let images: usize = sets.iter().map(|(_, opened)| opened.dataset.len()).sum();
    if args.decode || (!args.no_decode && images < DECODED_BELOW) {
        sets.iter_mut().for_each(|(_, opened)| opened.decode_images());
    } else {
        eprintln!("the pixels of the {images} images were not checked; --decode decodes every image");
    }
    let mut text = String::new();
    let mut reports = Map::new();
    let mut errors = 0;
    for (name, opened) in sets {
        text += &format!("{}\n", opened.report);
        errors += opened.report.errors();
        reports.insert(name.to_owned(), serde_json::to_value(&opened.report)?);
    }
    output::emit(args.set.json.as_deref(), &Value::Object(reports), &text)?;
    Ok(if errors > 0 { FAILED } else { DONE })
}

fn stats(args: &DataSetArgs, common: &Common) -> Result<u8> {
    let mut text = String::new();
    let mut all = Map::new();
    for (name, opened) in open(args, common)? {
        if !opened.report.is_clean() {
            eprintln!("warning: {name}: {}", opened.report.summary());
        }
        let stats = Stats::of(&opened.dataset);
        let gap = if text.is_empty() { "" } else { "\n" };
        text += &format!("{gap}{name}: {stats}\n");
        all.insert(name.to_owned(), serde_json::to_value(&stats)?);
    }
    output::emit(args.json.as_deref(), &Value::Object(all), &text)?;
    Ok(DONE)
}

/// Opens the selected data sets with their names, without broken images and boxes.
fn open(args: &DataSetArgs, common: &Common) -> Result<Vec<(&'static str, Opened)>> {
    let mut config = config::load(args.config.as_deref(), &common.set)?;
    config.data.on_error = OnError::Skip;
    let mut sets = Vec::new();
    if let (Some(annotations), Some(images)) = (&args.annotations, &args.images) {
        config.data.source = Source::Coco;
        config.data.val.annotations = Some(annotations.clone());
        config.data.val.images = Some(images.clone());
        sets.push(("set", config.data.open_val_with(None)?));
        return Ok(sets);
    }
    if args.split != Some(SplitArg::Val) {
        sets.push(("train", config.data.open_train()?));
    }
    let both = args.split.is_none();
    if args.split == Some(SplitArg::Val) || (both && names_val(&config)) {
        sets.push(("val", config.data.open_val()?));
    }
    Ok(sets)
}

/// Whether the configuration has a validation set. Configurations that are used only with `--overfit` need none.
fn names_val(config: &RunConfig) -> bool {
    config.data.source != Source::Coco || config.data.val.annotations.is_some()
}

fn voc(folder: &Path, split: String, out: &Path, classes: Vec<String>) -> Result<u8> {
    let classes = (!classes.is_empty()).then_some(classes);
    let converted = convert_voc(folder, &VocOptions { split: Some(split), classes })?;
    for note in &converted.notes {
        eprintln!("warning: {note}");
    }
    output::create_parent(out)?;
    let dataset = &converted.dataset;
    dataset.write(out)?;
    eprintln!(
        "{}: {} images, {} objects, {} categories",
        out.display(),
        dataset.images.len(),
        dataset.annotations.len(),
        dataset.categories.len()
    );
    Ok(DONE)
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
    eprintln!("{}: {} training and {} validation images", out.display(), shapes.count, shapes.val_count);
    Ok(DONE)
}
