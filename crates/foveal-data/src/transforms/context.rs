//! What transforms see besides their image: other images of the data set, and the size that the network needs.

use foveal_image::Preprocess;
use image::Rgb;

use super::Working;
use crate::labels::Labels;
use crate::{AugmentConfig, DataError, Dataset, OnError, Problem, Skipped, Stream};

/// Number of images that are tried in place of an image that cannot be loaded.
pub(crate) const REPLACEMENTS: usize = 10;

/// What a transform sees besides its image.
pub(crate) struct Context<'a> {
    dataset: &'a Dataset,
    frame: &'a Frame,
    on_error: OnError,
    /// The other images that could not be loaded, with `data.on_error = "skip"`.
    pub skipped: Vec<Skipped>,
}

/// The sizes and the colour of the network's input.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The preprocessing with the largest of `data.augment.min_sizes`.
    largest: Preprocess,
    /// The largest factor of `data.augment.scale_jitter`, at least 1.
    zoom: f32,
    /// The mean colour of the normalisation, which fills what an image does not cover.
    pub fill: Rgb<u8>,
}

impl Frame {
    /// The sizes that `augment` can give to an image after `preprocess`, and the mean colour.
    pub(crate) fn new(preprocess: &Preprocess, augment: &AugmentConfig) -> Self {
        let mut largest = preprocess.clone();
        if let Some(side) = augment.min_sizes.iter().max() {
            largest.min_size = *side;
        }
        let fill = Rgb(preprocess.mean.map(|mean| (mean * 255.0).round() as u8));
        Self { largest, zoom: augment.scale_jitter[1].max(1.0), fill }
    }

    /// The size `(width, height)` in pixels to which an image of `width` x `height` pixels is resized for the network,
    /// without random changes of its scale.
    pub(crate) fn target(&self, width: u32, height: u32) -> (u32, u32) {
        self.largest.target_size(width, height)
    }

    /// The largest factor, at most 1, by which an image of `width` x `height` pixels can be made smaller without loss
    /// for the network: its result is still as large as the network's input can become.
    pub(crate) fn shrink(&self, width: u32, height: u32) -> f32 {
        let (target_width, target_height) = self.target(width, height);
        let across = target_width as f32 / width as f32;
        let down = target_height as f32 / height as f32;
        (across.max(down) * self.zoom).min(1.0)
    }
}

impl<'a> Context<'a> {
    /// The surroundings of the transforms of one image.
    pub(crate) fn new(dataset: &'a Dataset, frame: &'a Frame, on_error: OnError) -> Self {
        Self { dataset, frame, on_error, skipped: Vec::new() }
    }

    /// The sizes and the colour of the network's input.
    pub(crate) fn frame(&self) -> &'a Frame {
        self.frame
    }

    /// Loads image `index` with its objects. `None` if it cannot be loaded and `data.on_error` is `skip`; it is then
    /// added to `skipped`.
    ///
    /// # Errors
    /// The error of [`Dataset::load`] if the image cannot be loaded and `data.on_error` is `fail`.
    pub(crate) fn load(&mut self, index: usize) -> Result<Option<Working>, DataError> {
        let record = self.dataset.record(index);
        match self.dataset.load(index) {
            Ok(image) => Ok(Some(Working { image, labels: Labels::from(record), sized: false })),
            Err(error) if self.on_error == OnError::Fail => Err(error),
            Err(error) => {
                self.skipped.push(unloadable(self.dataset, index, &error));
                Ok(None)
            }
        }
    }

    /// Loads a random image of the data set, which can be the sample's own. Images that cannot be loaded are treated as
    /// `data.on_error` says; with `skip`, [`REPLACEMENTS`] others are tried. `None` if these cannot be loaded either.
    ///
    /// # Errors
    /// The error of [`Dataset::load`] if the image cannot be loaded and `data.on_error` is `fail`.
    pub(crate) fn partner(&mut self, random: &mut Stream) -> Result<Option<Working>, DataError> {
        for _ in 0..=REPLACEMENTS {
            let loaded = self.load(random.below(self.dataset.len()))?;
            if loaded.is_some() {
                return Ok(loaded);
            }
        }
        Ok(None)
    }
}

/// The entry of an image that could not be loaded in the list of what was left out.
pub(crate) fn unloadable(dataset: &Dataset, index: usize, error: &DataError) -> Skipped {
    Skipped {
        image_id: dataset.record(index).image_id,
        annotation_id: None,
        problem: Problem::BrokenImage,
        reason: error.to_string(),
    }
}
