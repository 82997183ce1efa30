//! The time of training steps, inference and loading, as training will need it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};
use foveal_data::{LoaderOptions, loader};
use foveal_image::padded_length;
use foveal_train::{BenchConfig, BenchPhases, RunConfig, bench};

use super::data::Sets;
use super::facts::{Facts, Timed};
use super::plan::Plan;
use crate::commands::probe;
use crate::device::Picked;

/// Timed inferences, and inferences before them that are not timed.
const STEPS: usize = 3;
const WARM_UP: usize = 1;
/// Images whose loading is timed.
const LOADED: usize = 32;

/// Times training steps with the settings of `config`, inference on random images, and the loading of some training
/// images. `None` if interrupted.
pub(super) fn measure(
    config: &RunConfig,
    sets: &Sets,
    plan: &Plan,
    facts: &Facts,
    picked: &Picked,
    stop: &AtomicBool,
) -> Result<Option<Timed>> {
    let Some(timing) = probe::time(config, &std::env::temp_dir(), &picked.device, stop)? else { return Ok(None) };
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
    let infer = median(&bench(&timed, &picked.device, BenchPhases::Infer, None, false)?.infer_ms);
    let batch = plan.batch as f64;
    let (image, load) = (timing.step_seconds / (batch * config.train.accumulate as f64), loading(config, sets)?);
    // On a CPU, the step and the loading of the next images share the cores.
    let train = match facts.device.is_cpu {
        true => (image - load / facts.device.threads.max(1) as f64).max(0.5 * image),
        false => image,
    };
    let (size, network) = (plan.size, plan.network);
    let start = (timing.start_seconds - timing.step_seconds).max(0.0);
    Ok(Some(Timed { size, batch: plan.batch, network, train, infer: infer / batch, load, start }))
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
