//! Detections of many image files within a budget of memory.

use std::path::PathBuf;

use anyhow::anyhow;
use foveal_detector::{Detector, Prediction};
use foveal_image::{ImageLimit, Preprocess, RgbImage, Staged, padded_length};
use foveal_train::{DoesNotFit, InferenceCheck};
use rayon::prelude::*;

/// Number of bytes of the images that are held at the same time, as decoded and as input of the network. A larger image
/// is processed alone.
const HELD_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of a pixel of the network's input: three channels in single precision.
const INPUT_BYTES: u64 = 12;

/// How image files are loaded and passed through the network.
#[derive(Clone, Copy)]
pub(super) struct Options {
    /// The limit on the memory of an image.
    pub limit: ImageLimit,
    /// Largest number of images in a forward pass.
    pub batch_size: usize,
    /// Whether the decoded images are kept, to draw on them.
    pub keep_images: bool,
}

/// The detections of one image.
pub(super) struct Detected {
    /// The image, if it was to be kept.
    pub image: Option<RgbImage>,
    /// Width of the original image in pixels.
    pub width: u32,
    /// Height of the original image in pixels.
    pub height: u32,
    pub found: Vec<Prediction>,
}

/// An image without detections.
pub(super) enum Failed {
    /// The file cannot be read or decoded.
    Unreadable(anyhow::Error),
    /// The network's output is not finite.
    NonFinite(anyhow::Error),
}

/// Groups of consecutive files whose images together need at most [`HELD_BYTES`]; an image that needs more is a group
/// of its own. The sizes are those of the files' headers. Files that cannot be read count nothing.
pub(super) struct Groups<'a> {
    files: &'a [PathBuf],
    preprocess: Preprocess,
    limit: ImageLimit,
}

impl<'a> Groups<'a> {
    pub(super) fn new(files: &'a [PathBuf], detector: &Detector, options: &Options) -> Self {
        Self { files, preprocess: detector.checkpoint.meta.preprocess.clone(), limit: options.limit }
    }

    fn bytes(&self, path: &std::path::Path) -> u64 {
        let Ok(size) = self.limit.file_size(path) else { return 0 };
        let (width, height) = self.preprocess.target_size(size.width, size.height);
        size.bytes + INPUT_BYTES * u64::from(width) * u64::from(height)
    }
}

impl<'a> Iterator for Groups<'a> {
    type Item = &'a [PathBuf];

    fn next(&mut self) -> Option<&'a [PathBuf]> {
        let mut bytes = 0;
        let fits = |path: &&PathBuf| {
            let before = bytes;
            bytes += self.bytes(path);
            before == 0 || bytes <= HELD_BYTES
        };
        let count = self.files.iter().take_while(fits).count();
        let (group, rest) = self.files.split_at(count);
        self.files = rest;
        (count > 0).then_some(group)
    }
}

/// Detects the objects in a group of image files. The results are in the order of the files.
///
/// # Errors
/// If a batch is too large for the device.
pub(super) fn detect(
    detector: &Detector,
    files: &[PathBuf],
    options: &Options,
    check: &mut InferenceCheck,
) -> Result<Vec<Result<Detected, Failed>>, DoesNotFit> {
    let preprocess = &detector.checkpoint.meta.preprocess;
    let load = |path: &PathBuf| {
        let image = options.limit.load_rgb(path).map_err(|error| Failed::Unreadable(error.into()))?;
        let staged = preprocess.stage(&image);
        let (width, height) = image.dimensions();
        let image = options.keep_images.then_some(image);
        Ok((Detected { image, width, height, found: Vec::new() }, staged))
    };
    let loaded: Vec<Result<(Detected, Staged), Failed>> = files.par_iter().map(load).collect();
    let mut inputs = Vec::new();
    let mut results = Vec::with_capacity(files.len());
    for (index, loaded) in loaded.into_iter().enumerate() {
        results.push(loaded.map(|(detected, staged)| {
            inputs.push(Input { index, staged });
            detected
        }));
    }
    for batch in batches(inputs, options.batch_size) {
        if let Some(first) = batch.first() {
            check.check(batch.len(), first.padded())?;
        }
        run(detector, batch, files, &mut results);
    }
    Ok(results)
}

/// A resized image with the index of its file.
struct Input {
    index: usize,
    staged: Staged,
}

impl Input {
    /// Height and width of the padded image in pixels.
    fn padded(&self) -> [usize; 2] {
        [self.staged.height(), self.staged.width()].map(padded_length)
    }
}

/// Only images of equal padded size share a batch, so that a batch adds no padding.
fn batches(inputs: Vec<Input>, batch_size: usize) -> Vec<Vec<Input>> {
    let mut groups: Vec<([usize; 2], Vec<Input>)> = Vec::new();
    for input in inputs {
        let size = input.padded();
        match groups.iter_mut().find(|(of, members)| *of == size && members.len() < batch_size) {
            Some((_, members)) => members.push(input),
            None => groups.push((size, vec![input])),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

/// Runs the network on a batch and stores the detections. If the output of some images is not finite, they fail and the
/// others are run again.
fn run(detector: &Detector, batch: Vec<Input>, files: &[PathBuf], results: &mut [Result<Detected, Failed>]) {
    let (mut indices, mut staged): (Vec<usize>, Vec<Staged>) =
        batch.into_iter().map(|input| (input.index, input.staged)).unzip();
    while !indices.is_empty() {
        match detector.detect_staged(&staged) {
            Ok(all) => {
                for (&index, found) in indices.iter().zip(all) {
                    if let Ok(detected) = &mut results[index] {
                        detected.found = found;
                    }
                }
                return;
            }
            Err(error) => {
                for &at in error.images.iter().rev() {
                    let index = indices.remove(at);
                    staged.remove(at);
                    let text = anyhow!("image {}: {error}", files[index].display());
                    results[index] = Err(Failed::NonFinite(text));
                }
            }
        }
    }
}
