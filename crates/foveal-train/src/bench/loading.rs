//! Measures the speed of loading batches, without a network.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use foveal_data::{ImageCache, LoaderOptions, TransformCosts, TransformTimes, cached_loader};
use foveal_kernels::is_gpu;

use crate::config::RunConfig;
use crate::error::TrainError;

/// Largest number of images in a pass: enough that start and end of a pass hardly count, and few enough for large sets.
const PASS_IMAGES: usize = 1024;

/// Loads the training set in several passes of at most [`PASS_IMAGES`] images and returns the speed of each pass after
/// the warm-up in images per second, with the times of the transforms in these passes. The cache of `data.cache` is
/// filled by the first passes. The batches end in the form in which they go to the device: bytes for a GPU, and
/// normalised values for the CPU.
///
/// # Errors
/// [`TrainError::Data`] when the set or an image cannot be loaded, [`TrainError::Empty`] when no image can be used.
pub(super) fn images_per_second(config: &RunConfig, device: &Device) -> Result<(Vec<f64>, TransformCosts), TrainError> {
    let normalises = !is_gpu(device);
    let set = Arc::new(config.data.open_train()?.dataset);
    if set.is_empty() {
        return Err(TrainError::Empty { set: "training" });
    }
    let bench = &config.bench;
    let mut rates = Vec::with_capacity(bench.steps);
    let cache = ImageCache::open(&config.data)?;
    let mut times = TransformTimes::new(&config.data.augment);
    for epoch in 0..bench.warmup + bench.steps {
        let options = LoaderOptions {
            batch_size: config.train.batch_size,
            seed: config.train.seed,
            training: true,
            anchors: config.model.anchors.clone(),
            matcher: config.matcher,
            first: 0,
            epochs: None,
        };
        let (mut images, started) = (0, Instant::now());
        for batch in cached_loader(Arc::clone(&set), &config.data, options, epoch as u64, cache.clone()) {
            let batch = batch?;
            images += batch.info.len();
            if epoch >= bench.warmup {
                times.extend(&batch.transform_times);
            }
            if normalises {
                black_box(batch.images.into_normalised());
            }
            if images >= PASS_IMAGES {
                break;
            }
        }
        if epoch >= bench.warmup {
            rates.push(images as f64 / started.elapsed().as_secs_f64());
        }
    }
    Ok((rates, times.costs()))
}
