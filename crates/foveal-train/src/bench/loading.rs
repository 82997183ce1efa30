//! The loading pipeline by itself.

use std::sync::Arc;
use std::time::Instant;

use foveal_data::{LoaderOptions, loader};

use crate::config::RunConfig;
use crate::error::TrainError;

/// Images of a pass: enough that starting and running dry do not count, few enough for large sets.
const PASS_IMAGES: usize = 1024;

/// Images per second of each pass after the warm-up over the training set, or over [`PASS_IMAGES`] of it. Nothing else is
/// computed meanwhile.
pub(super) fn images_per_second(config: &RunConfig) -> Result<Vec<f64>, TrainError> {
    let set = Arc::new(config.data.open_train()?.dataset);
    if set.is_empty() {
        return Err(TrainError::Empty { set: "training" });
    }
    let bench = &config.bench;
    let mut rates = Vec::with_capacity(bench.steps);
    for epoch in 0..bench.warmup + bench.steps {
        let options = LoaderOptions {
            batch_size: config.train.batch_size,
            seed: config.train.seed,
            training: true,
            anchors: config.model.anchors.clone(),
            matcher: config.matcher,
        };
        let (mut images, started) = (0, Instant::now());
        for batch in loader(Arc::clone(&set), &config.data, options, epoch as u64) {
            images += batch?.info.len();
            if images >= PASS_IMAGES {
                break;
            }
        }
        if epoch >= bench.warmup {
            rates.push(images as f64 / started.elapsed().as_secs_f64());
        }
    }
    Ok(rates)
}
