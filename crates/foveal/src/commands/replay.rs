//! `foveal replay`: runs a training step with a NaN or infinite loss again and names the layer it came from.

use std::fmt::Write;

use anyhow::Result;
use foveal_base::printable;
use foveal_detector::ComputePrecision;
use foveal_train::{BatchTrace, BlackBox, LayerRecord, RecordedImage, Replay, Report, StepLosses};
use serde::Serialize;

use crate::args::{Common, ReplayArgs};
use crate::failure::DONE;
use crate::outputs::Files;
use crate::{device, output};

/// Number of layers before the one that turned whose statistics are printed.
const LAYERS_BEFORE: usize = 3;

/// The output of `--json`.
#[derive(Debug, Serialize)]
struct Output<'a> {
    step: u64,
    epoch: usize,
    images: &'a [RecordedImage],
    recorded_device: &'a str,
    recorded: StepLosses,
    /// Name of the layer where the values turned; `None` if that was not in a layer.
    layer: Option<&'a str>,
    /// The finding in words.
    text: String,
    cause: String,
    remedy: String,
    #[serde(flatten)]
    replay: &'a Replay,
}

/// Runs the step of a black box again and prints where its values turned, the likely cause and what to do.
///
/// # Errors
/// If there is no black box, it is damaged, or a file cannot be written.
pub(super) fn run(args: &ReplayArgs, common: &Common) -> Result<u8> {
    Files::new().read("black box", &BlackBox::files(&args.dir)).write("--json", &args.json).check()?;
    let black_box = BlackBox::load(&args.dir)?;
    let picked = device::pick(&common.device)?;
    let replay = black_box.replay(&args.dir, &picked.device)?;
    let report = &black_box.report;
    let finding = &replay.finding;
    let precision = black_box.config.train.precision;
    let output = Output {
        step: report.step,
        epoch: report.epoch,
        images: &report.images,
        recorded_device: &report.device,
        recorded: report.losses,
        layer: finding.layer(),
        text: finding.to_string(),
        cause: finding.cause(precision),
        remedy: finding.remedy(precision),
        replay: &replay,
    };
    output::emit(args.json.as_deref(), &output, &text(report, &replay, precision))?;
    Ok(DONE)
}

/// The output on stdout.
fn text(report: &Report, replay: &Replay, precision: ComputePrecision) -> String {
    let Report { step, epoch, lr, .. } = report;
    let [device, system, foveal] = [&report.device, &report.system, &report.foveal].map(|text| printable(text));
    let mut text =
        format!("step {step}, epoch {epoch}, learning rate {lr}; ran on {device} ({system}, foveal {foveal})\n");
    let images: Vec<String> = report.images.iter().map(image).collect();
    let _ = writeln!(text, "images: {}\n", images.join(", "));
    let _ = writeln!(text, "{:<14} {:>15} {:>15}", "", "recorded", "replayed");
    for ((name, recorded), (_, replayed)) in report.losses.named().into_iter().zip(replay.losses.named()) {
        let _ = writeln!(text, "{name:<14} {recorded:>15} {replayed:>15}");
    }
    let _ = writeln!(text, "\n{}\n", comparison(report, replay));
    if let Some(layer) = replay.finding.layer()
        && let Some(rows) = replay.batches.iter().find_map(|batch| table(batch, layer))
    {
        text += &rows;
    }
    let _ = writeln!(text, "finding: {}", printable(&replay.finding.to_string()));
    if !replay.broken_tensors.is_empty() {
        let names: Vec<_> = replay.broken_tensors.iter().map(|tensor| printable(&tensor.name)).collect();
        let _ = writeln!(text, "tensors with values that are not finite: {}", names.join(", "));
    }
    let _ = writeln!(text, "likely cause: {}", replay.finding.cause(precision));
    let _ = writeln!(text, "what to do: {}", printable(&replay.finding.remedy(precision)));
    text
}

fn image(image: &RecordedImage) -> String {
    match &image.file {
        Some(file) => format!("{} ({})", image.image_id, printable(file)),
        None => image.image_id.to_string(),
    }
}

/// Whether the replay gave the recorded values, in words.
fn comparison(report: &Report, replay: &Replay) -> String {
    match (replay.identical, replay.same_device) {
        (true, _) => "The replay gives exactly the recorded values.".to_owned(),
        (false, false) => format!(
            "The replay on {} gives other values than the run on {}; these devices round differently. Pass --device to \
             replay on the device of the run.",
            replay.device, report.device
        ),
        (false, true) => format!(
            "The replay gives other values than the run, although both ran on {}: the device does not compute the same \
             result every time, or the black box was changed.",
            replay.device
        ),
    }
}

/// The statistics of a layer and of the layers before it, if the batch has the layer.
fn table(batch: &BatchTrace, layer: &str) -> Option<String> {
    let is_this = |record: &&LayerRecord| record.trace.name == layer || record.trace.norm.as_deref() == Some(layer);
    let place = batch.layers.iter().position(|record| is_this(&record))?;
    let mut text =
        format!("{:<48} {:>12} {:>12} {:>12} {:>10}\n", "output of", "minimum", "maximum", "mean", "non-finite");
    for record in &batch.layers[place.saturating_sub(LAYERS_BEFORE)..=place] {
        let stats = &record.trace.output;
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3e}"));
        let _ = writeln!(
            text,
            "{:<48} {:>12} {:>12} {:>12} {:>8.2} %",
            record.trace.name,
            number(stats.min.map(f64::from)),
            number(stats.max.map(f64::from)),
            number(stats.mean),
            100.0 * stats.non_finite_share
        );
    }
    text.push('\n');
    Some(text)
}
