//! The time of training steps, inference and loading, as training will need it.

use std::sync::Arc;

use anyhow::{Result, bail};
use foveal_data::{LoaderOptions, loader};
use foveal_image::padded_length;
use foveal_train::{BenchConfig, BenchPhases, RunConfig, bench};

use super::data::Sets;
use super::facts::{Facts, Timed};
use super::plan::Plan;
use crate::device::Picked;

/// Timed steps, and steps before them that are not timed.
const STEPS: usize = 3;
const WARM_UP: usize = 1;
/// Images whose loading is timed.
const LOADED: usize = 32;

/// Times three training steps and inferences with the settings of `config` on random images, and the loading of some
/// training images.
pub(super) fn measure(config: &RunConfig, sets: &Sets, plan: &Plan, facts: &Facts, picked: &Picked) -> Result<Timed> {
    let long = plan.size as f32 * facts.data.aspect[0].clamp(1.0, plan.max_size as f32 / plan.size as f32);
    let mut timed = config.clone();
    timed.bench = BenchConfig {
        batch_size: plan.batch,
        height: padded_length(plan.size as usize),
        width: padded_length(long as usize),
        boxes: facts.data.objects_per_image[0] as usize,
        classes: facts.data.classes.len(),
        steps: STEPS,
        warmup: WARM_UP,
    };
    let report = bench(&timed, &picked.device, BenchPhases::Train, None, false)?;
    let train = median(&report.train_step_ms);
    let infer = median(&bench(&timed, &picked.device, BenchPhases::Infer, None, false)?.infer_ms);
    let batch = plan.batch as f64;
    Ok(Timed {
        size: plan.size,
        batch: plan.batch,
        network: plan.network,
        train: train / batch,
        infer: infer / batch,
        load: loading(config, sets)?,
        start: (report.first_step_seconds - train).max(0.0),
    })
}

/// Seconds that a loading thread needs for an image, with augmentation and the assignment of anchors.
fn loading(config: &RunConfig, sets: &Sets) -> Result<f64> {
    let count = sets.train.len().min(LOADED);
    let chosen: Vec<usize> = (0..count).map(|i| i * sets.train.len() / count).collect();
    let mut data = config.data.clone();
    data.workers = 1;
    let options = LoaderOptions {
        batch_size: config.train.batch_size,
        seed: config.train.seed,
        training: true,
        anchors: config.model.anchors.clone(),
        matcher: config.matcher,
        epochs: Some(config.train.epochs),
        first: 0,
    };
    let (mut images, mut seconds) = (0, 0.0);
    for batch in loader(Arc::new(sets.train.select(&chosen)), &data, options, 0) {
        let batch = batch?;
        images += batch.info.len();
        seconds += batch.load_seconds;
    }
    if images == 0 {
        bail!(
            "none of {count} training images could be loaded to time it; foveal data check --decode lists damaged images"
        );
    }
    Ok(seconds / images as f64)
}

/// The median in seconds of times in milliseconds.
fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default() / 1e3
}
