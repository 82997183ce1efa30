//! `foveal export`: writes the network of a checkpoint for other programs.

use anyhow::{Context, Result};
use burn::tensor::Device;
use foveal_base::{Destination, destination};
use foveal_detector::onnx::{self, OnnxOptions};
use foveal_detector::{Checkpoint, Counters, Precision, export_weights, torchvision_note, verify_weights};

use crate::args::{Common, ExportArgs, ExportFormat};
use crate::config::checkpoint::{self, OPEN_TO_INFERENCE, refuse_closed};
use crate::console::note;
use crate::failure::{DONE, Usage};
use crate::output;
use crate::outputs::Files;

/// Bytes per megabyte.
const MEGABYTE: f64 = 1e6;

/// Writes the network of a checkpoint for another program. For torchvision, prints the matching constructor to stdout.
///
/// # Errors
/// If the checkpoint cannot be read or the format cannot represent it, if the file cannot be written, or if the
/// written file fails the verification.
pub(super) fn run(args: &ExportArgs, common: &Common) -> Result<u8> {
    refuse_closed(&common.set, &OPEN_TO_INFERENCE)?;
    if args.nms && args.format != ExportFormat::Onnx {
        return Err(Usage("--nms: expected --format onnx, because other formats contain only weights".into()).into());
    }
    Files::new().read("checkpoint", [&args.checkpoint]).write("--output", [&args.output]).check()?;
    // Nothing is computed, so the weights stay on the host.
    let (checkpoint, _) = checkpoint::open(&args.checkpoint, &common.set, None, &Device::flex())?;
    if !checkpoint.meta.class_thresholds.is_empty() {
        note!("warning: the score thresholds of single classes are not exported; only eval.score_threshold is");
    }
    output::create_parent(&args.output)?;
    match args.format {
        ExportFormat::Safetensors => weights(args, &checkpoint, Counters::LeftOut)?,
        ExportFormat::Torchvision => {
            let note = torchvision_note(&checkpoint, &args.output)?;
            weights(args, &checkpoint, Counters::Written)?;
            output::print(&note)?;
        }
        ExportFormat::Onnx => graph(args, &checkpoint)?,
    }
    Ok(DONE)
}

fn graph(args: &ExportArgs, checkpoint: &Checkpoint) -> Result<()> {
    let bytes = onnx::export(checkpoint, &OnnxOptions { nms: args.nms, half: args.half });
    let path = args.output.display();
    if !args.no_verify {
        onnx::verify(&bytes).with_context(|| format!("{path} was not written, because the ONNX graph is invalid"))?;
    }
    onnx::write(&bytes, &args.output)?;
    let outputs = if args.nms { "boxes, scores, classes, batch_index" } else { "logits, boxes" };
    note!(
        "{path}: ONNX, opset {}, {:.1} MB, {} classes; input: images [batch, 3, height, width]; outputs: {outputs}",
        onnx::OPSET,
        bytes.len() as f64 / MEGABYTE,
        checkpoint.meta.categories.len(),
    );
    Ok(())
}

fn weights(args: &ExportArgs, checkpoint: &Checkpoint, counters: Counters) -> Result<()> {
    let precision = if args.half { Precision::F16 } else { Precision::F32 };
    export_weights(checkpoint, &args.output, precision, counters)?;
    let path = args.output.display();
    if args.no_verify {
        return Ok(());
    }
    if matches!(destination(&args.output), Ok(Destination::File(_))) {
        verify_weights(checkpoint, &args.output, precision)?;
        note!("{path}: written and verified");
    } else {
        note!("{path}: written, and not verified, because a pipe or device cannot be read back");
    }
    Ok(())
}
