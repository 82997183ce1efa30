//! `foveal import`: converts the weights of a torchvision detector to a checkpoint.

use anyhow::{Context, Result};
use burn::tensor::Device;
use foveal_criterion::{BoxLossKind, LossConfig, NormalizerKind};
use foveal_detector::{Labels, ModelConfig, TorchvisionArch, import_torchvision};

use crate::args::{Arch, ImportArgs};
use crate::console::note;
use crate::failure::{DONE, Usage};
use crate::output;
use crate::outputs::Files;

/// Converts the weights of a torchvision detector to a checkpoint.
///
/// # Errors
/// If a file cannot be read or written, the weights are not those of `--arch`, or the labels do not match the weights.
pub(super) fn run(args: &ImportArgs) -> Result<u8> {
    if !(args.norm_eps >= 0.0 && args.norm_eps.is_finite()) {
        return Err(Usage(format!("--norm-eps {}: expected a finite number, 0 or more", args.norm_eps)).into());
    }
    let (arch, box_kind) = match args.arch {
        Arch::V1 => (TorchvisionArch::V1, BoxLossKind::L1),
        Arch::V2 => (TorchvisionArch::V2, BoxLossKind::Giou),
    };
    let inputs = Files::new().read("weight file", [&args.weights]).read("file of labels", &args.labels);
    inputs.write("--output", [&args.output]).check()?;
    let labels = args.labels.as_deref().map(Labels::read).transpose()?;
    let model = ModelConfig { norm_eps: args.norm_eps, ..arch.model() };
    // Nothing is computed, so the weights stay on the host.
    let mut checkpoint = import_torchvision(&args.weights, &model, labels.as_ref(), &Device::flex())?;
    let loss = LossConfig { box_kind, normalizer: NormalizerKind::PerImage, ..LossConfig::default() };
    checkpoint.meta.loss = Some(serde_json::to_value(loss).context("the losses cannot be converted to JSON")?);
    output::create_parent(&args.output)?;
    checkpoint.meta.save(&checkpoint.model, &args.output)?;
    let (categories, count) = (&checkpoint.meta.categories, checkpoint.meta.model.channels(0));
    note!(
        "{}: {} with {} categories ({}, …) in {count} class channels, norm_eps {}",
        args.output.display(),
        arch.name(),
        categories.len(),
        categories.iter().take(3).map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "),
        args.norm_eps,
    );
    Ok(DONE)
}
