//! The random images of a benchmark, and the thread that hands copies of them over as the loading workers do.

use std::sync::mpsc::sync_channel;
use std::thread;

use foveal_data::Stream;
use foveal_image::{ImageBatch, Preprocess, RgbImage};

use crate::config::BenchConfig;

/// Number of batches that wait for the next step.
const WAITING: usize = 2;
/// Largest sum of four bytes.
const MOST: usize = 4 * 255;
/// Standard deviation of the sum of four random bytes: the square root of four times (256² - 1) / 12.
const SPREAD: f32 = 147.8;
/// Makes up for the values that are cut off at 0 and 255, so that the normalised values have a standard deviation of 1.
const CUT_OFF: f32 = 1.03;

/// A batch of images whose normalised values have about the mean 0 and the standard deviation 1, prepared as the
/// loading workers prepare images.
pub(super) fn random_images(bench: &BenchConfig, preprocess: &Preprocess, random: &mut Stream) -> ImageBatch {
    let tables: [Vec<u8>; 3] = std::array::from_fn(|channel| {
        let (mean, std) = (preprocess.mean[channel], preprocess.std[channel]);
        (0..=MOST).map(|sum| pixel(sum as f32, mean, std)).collect()
    });
    let (height, width) = (bench.height as u32, bench.width as u32);
    let images: Vec<_> = (0..bench.batch_size)
        .map(|_| {
            let mut image = RgbImage::new(width, height);
            for pixel in image.pixels_mut() {
                for (value, table) in pixel.0.iter_mut().zip(&tables) {
                    *value = table[sum_of_bytes(random)];
                }
            }
            preprocess.stage_at(image, width, height)
        })
        .collect();
    ImageBatch::stack(&images, preprocess)
}

/// The byte for a sum of four random bytes, which is nearly normally distributed.
fn pixel(sum: f32, mean: f32, std: f32) -> u8 {
    let normal = (sum - MOST as f32 / 2.0) / SPREAD;
    (255.0 * (mean + std * CUT_OFF * normal)).round().clamp(0.0, 255.0) as u8
}

fn sum_of_bytes(random: &mut Stream) -> usize {
    random.bits().to_le_bytes()[..4].iter().map(|byte| usize::from(*byte)).sum()
}

/// Calls `run` with a function that returns a copy of `batch`. Another thread makes the copies beforehand, as loading
/// workers make batches while the device computes.
pub(super) fn fed<T>(batch: &ImageBatch, run: impl FnOnce(&mut dyn FnMut() -> ImageBatch) -> T) -> T {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(WAITING);
        scope.spawn(move || while sender.send(batch.clone()).is_ok() {});
        run(&mut || receiver.recv().expect("the thread sends until nobody receives"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_image::PaddedBatch;

    #[test]
    fn images_are_normalised_noise() {
        let bench = BenchConfig { batch_size: 2, height: 64, width: 96, ..BenchConfig::default() };
        let batch = random_images(&bench, &Preprocess::default(), &mut Stream::new(&[3])).into_normalised();
        assert_eq!((batch.batch, batch.height, batch.width), (2, 64, 96));
        let count = batch.data.len() as f32;
        let mean = batch.data.iter().sum::<f32>() / count;
        let variance = batch.data.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count;
        assert!(mean.abs() < 0.05 && (variance.sqrt() - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn every_call_gets_the_same_batch() {
        let batch = ImageBatch::from(PaddedBatch { data: vec![1.0; 4], batch: 1, height: 2, width: 2 });
        let all_equal = fed(&batch, |next| (0..5).all(|_| next() == batch));
        assert!(all_equal);
    }
}
