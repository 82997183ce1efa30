//! Configurations that result from a checkpoint and the command line.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::Device;
use foveal_detector::{Checkpoint, CheckpointMeta};
use foveal_train::RunConfig;

use super::Origin;
use crate::failure::Usage;

/// Prefixes of the keys that `--set` may change for `predict` and `export`; the checkpoint fixes all others.
pub(crate) const OPEN_TO_INFERENCE: [&str; 2] = ["data.", "eval."];
/// Prefixes of the keys that `--set` may change for `eval`; the checkpoint fixes all others.
pub(crate) const OPEN_TO_EVAL: [&str; 5] = ["data.", "eval.", "loss.", "matcher.", "train.seed"];

/// Key of the score threshold of all classes.
const SCORE_THRESHOLD: &str = "eval.score_threshold";

/// Loads a checkpoint and overrides its preprocessing and thresholds with the values of the command line. Returns the
/// checkpoint and the resulting configuration. A score threshold of the command line replaces the checkpoint's
/// thresholds of single classes.
///
/// # Errors
/// If the checkpoint cannot be read or a value is invalid; the error names the source of the value.
pub(crate) fn open(
    path: &Path,
    sets: &[String],
    score_threshold: Option<f32>,
    device: &Device,
) -> Result<(Checkpoint, RunConfig)> {
    let mut checkpoint = Checkpoint::load(path, device)?;
    let config = resolve(path, &checkpoint.meta, sets, score_threshold)?;
    checkpoint.meta.preprocess = config.data.preprocess();
    checkpoint.meta.post = config.eval.post();
    if score_threshold.is_some() || sets.iter().any(|set| set.trim_start().starts_with(SCORE_THRESHOLD)) {
        checkpoint.meta.class_thresholds.clear();
    }
    Ok((checkpoint, config))
}

/// Reads the metadata of a checkpoint without building its network. Returns the metadata and the configuration that
/// results from it and the command line.
///
/// # Errors
/// If the checkpoint cannot be read or a value is invalid; the error names the source of the value.
pub(crate) fn read(path: &Path, sets: &[String]) -> Result<(CheckpointMeta, RunConfig)> {
    let meta = CheckpointMeta::read(path)?;
    let config = resolve(path, &meta, sets, None)?;
    Ok((meta, config))
}

fn resolve(path: &Path, meta: &CheckpointMeta, sets: &[String], score_threshold: Option<f32>) -> Result<RunConfig> {
    let mut base = RunConfig::default();
    apply_checkpoint(&mut base, meta)?;
    if let Some(score) = score_threshold {
        base.eval.score_threshold = score;
    }
    let layer = super::layer_of(&base, Origin::Checkpoint(path.to_owned()))?;
    super::with_sets(vec![layer], sets)
}

/// Checks that every `--set` key begins with one of the prefixes `open`.
///
/// # Errors
/// [`Usage`] if a key does not; the error names it.
pub(crate) fn refuse_closed(sets: &[String], open: &[&str]) -> Result<()> {
    match sets.iter().find(|set| !open.iter().any(|prefix| set.trim_start().starts_with(prefix))) {
        None => Ok(()),
        Some(set) => {
            let open = open.join(", ");
            let text =
                format!("--set {set}: the checkpoint fixes this key; only keys that begin with {open} can be set");
            Err(Usage(text).into())
        }
    }
}

/// Copies the network, the losses, the preprocessing and the thresholds of a checkpoint into a configuration.
///
/// # Errors
/// If the losses in the checkpoint are not a valid `[loss]` section.
pub(crate) fn apply_checkpoint(config: &mut RunConfig, meta: &CheckpointMeta) -> Result<()> {
    let (data, prepare) = (&mut config.data, &meta.preprocess);
    data.min_size = prepare.min_size;
    data.max_size = prepare.max_size;
    data.fixed_size = prepare.fixed_size;
    data.resize = prepare.resize;
    data.mean = prepare.mean;
    data.std = prepare.std;
    config.eval.score_threshold = meta.post.score_threshold;
    config.eval.nms = meta.post.nms;
    config.eval.max_detections = meta.post.max_detections;
    config.eval.pre_nms = meta.post.pre_nms;
    config.model = meta.model.clone();
    if let Some(loss) = &meta.loss {
        config.loss = serde_json::from_value(loss.clone())
            .context("the losses in the checkpoint's metadata are not a valid [loss] section")?;
    }
    Ok(())
}
