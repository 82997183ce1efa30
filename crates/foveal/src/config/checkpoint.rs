//! A checkpoint together with the values of the command line that override its own.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::Device;
use foveal_detector::{Checkpoint, CheckpointMeta};
use foveal_train::RunConfig;

use super::Origin;
use crate::failure::Usage;

/// Keys of `--set` that a checkpoint leaves open to `predict` and `export`: what they begin with.
pub const OPEN_TO_INFERENCE: [&str; 2] = ["data.", "eval."];
/// Keys of `--set` that a checkpoint leaves open to `eval`: what they begin with.
pub const OPEN_TO_EVAL: [&str; 5] = ["data.", "eval.", "loss.", "matcher.", "train.seed"];

/// Opens a checkpoint with the preprocessing and thresholds of the command line where that names any, and gives the whole
/// configuration that results.
///
/// # Errors
/// A checkpoint that cannot be read; values that cannot be used, with where they come from.
pub fn open(
    path: &Path,
    sets: &[String],
    score_threshold: Option<f32>,
    device: &Device,
) -> Result<(Checkpoint, RunConfig)> {
    let mut checkpoint = Checkpoint::load(path, device)?;
    let config = resolve(path, &checkpoint.meta, sets, score_threshold)?;
    checkpoint.meta.preprocess = config.data.preprocess();
    checkpoint.meta.post = config.eval.post();
    Ok((checkpoint, config))
}

/// Reads what a checkpoint says of itself without making its network, and gives the whole configuration that results.
///
/// # Errors
/// A checkpoint that cannot be read; values that cannot be used, with where they come from.
pub fn read(path: &Path, sets: &[String]) -> Result<(CheckpointMeta, RunConfig)> {
    let meta = CheckpointMeta::read(path)?;
    let config = resolve(path, &meta, sets, None)?;
    Ok((meta, config))
}

fn resolve(path: &Path, meta: &CheckpointMeta, sets: &[String], score_threshold: Option<f32>) -> Result<RunConfig> {
    let mut base = RunConfig::default();
    adopt(&mut base, meta)?;
    if let Some(score) = score_threshold {
        base.eval.score_threshold = score;
    }
    let layer = super::layer_of(&base, Origin::Checkpoint(path.to_owned()))?;
    super::with_sets(vec![layer], sets)
}

/// Refuses `--set` keys that would contradict a checkpoint.
///
/// # Errors
/// [`Usage`] with the key.
pub fn refuse_closed(sets: &[String], open: &[&str]) -> Result<()> {
    match sets.iter().find(|set| !open.iter().any(|prefix| set.trim_start().starts_with(prefix))) {
        None => Ok(()),
        Some(set) => {
            let open = open.join(", ");
            Err(Usage(format!("--set {set}: the checkpoint fixes that; what can be set here begins with {open}"))
                .into())
        }
    }
}

/// What a checkpoint says of preprocessing and thresholds, put into a configuration.
///
/// # Errors
/// A `loss` in the checkpoint that is none.
pub fn adopt(config: &mut RunConfig, meta: &CheckpointMeta) -> Result<()> {
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
            .context("the checkpoint's loss is not a [loss] section of a configuration")?;
    }
    Ok(())
}
