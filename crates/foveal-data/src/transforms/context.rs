//! What transforms see besides their image: other images of the data set, and the size that the network needs.

use foveal_image::Preprocess;
use image::Rgb;

use super::collage::{fitted, scaled};
use super::copy_paste::ObjectIndex;
use super::{Transform, Working};
use crate::augment::Size;
use crate::cache::{self, ImageCache};
use crate::labels::Labels;
use crate::{AugmentConfig, DataError, Dataset, OnError, Problem, Skipped, Stream};

/// Number of images that are tried in place of an image that cannot be loaded.
pub(crate) const REPLACEMENTS: usize = 10;

/// What a transform sees besides its image.
pub(crate) struct Context<'a> {
    dataset: &'a Dataset,
    frame: &'a Frame,
    objects: &'a ObjectIndex,
    on_error: OnError,
    /// The cache that other images are loaded from.
    cache: Option<&'a ImageCache>,
    /// The other images that could not be loaded, with `data.on_error = "skip"`.
    pub skipped: Vec<Skipped>,
}

/// The sizes and the colour of the network's input.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The preprocessing with the largest of `data.augment.min_sizes`.
    largest: Preprocess,
    /// The canvas of `large_scale_jitter`, if the list of transforms has it.
    canvas: Option<Size>,
    /// Whether every image is put on that canvas.
    always_on_canvas: bool,
    /// The largest factor of `data.augment.scale_jitter`, at least 1.
    zoom: f32,
    /// The mean colour of the normalisation, which fills what an image does not cover.
    pub fill: Rgb<u8>,
    /// Probability that left and right of an image are swapped before it is combined with another
    /// (`data.augment.flip_horizontal`).
    pub flip_horizontal: f32,
}

impl Frame {
    /// The sizes that `augment` can give to an image after `preprocess`, and the mean colour.
    pub(crate) fn new(preprocess: &Preprocess, augment: &AugmentConfig) -> Self {
        let mut largest = preprocess.clone();
        if let Some(side) = augment.min_sizes.iter().max() {
            largest.min_size = *side;
        }
        let jitter = augment.transforms.iter().find_map(|transform| match transform {
            Transform::LargeScaleJitter(jitter) => Some(jitter),
            _ => None,
        });
        Self {
            largest,
            canvas: jitter.map(|jitter| Size { width: jitter.size[1], height: jitter.size[0] }),
            always_on_canvas: jitter.is_some_and(|jitter| jitter.probability >= 1.0),
            zoom: augment.scale_jitter[1].max(1.0),
            fill: Rgb(preprocess.mean.map(|mean| (mean * 255.0).round() as u8)),
            flip_horizontal: augment.flip_horizontal,
        }
    }

    /// The size to which an image of this size is resized for the network, without random changes of its scale. Where
    /// it can be put on a canvas of fixed size, it is the larger one of its sizes with and without the canvas.
    pub(crate) fn target(&self, image: Size) -> Size {
        let plain = Size::from(self.largest.target_size(image.width, image.height));
        let Some(canvas) = self.canvas else { return plain };
        let on_canvas = fitted(image, canvas, 1.0);
        if self.always_on_canvas || on_canvas.width > plain.width { on_canvas } else { plain }
    }

    /// The size that an image of this size can be reduced to before it is enlarged by up to `zoom`, so that it still
    /// has at least as many pixels as the network's input. It is never larger than the image and keeps its proportions.
    pub(crate) fn reduced(&self, image: Size, zoom: f32) -> Size {
        let (target, zoom) = (self.target(image), self.zoom * zoom.max(1.0));
        let across = target.width as f32 / image.width as f32;
        let down = target.height as f32 / image.height as f32;
        let factor = across.max(down) * zoom;
        if factor >= 1.0 {
            return image;
        }
        // Resizing without a fixed size gives the same proportions, and resizing to the same size changes nothing.
        let exact = zoom == 1.0 && self.largest.fixed_size.is_none() && self.canvas.is_none();
        if exact { target } else { scaled(image, factor) }
    }
}

impl<'a> Context<'a> {
    /// The surroundings of the transforms of one image.
    pub(crate) fn new(dataset: &'a Dataset, frame: &'a Frame, objects: &'a ObjectIndex, on_error: OnError) -> Self {
        Self { dataset, frame, objects, on_error, cache: None, skipped: Vec::new() }
    }

    /// The same surroundings with a cache of decoded images.
    pub(crate) fn with_cache(self, cache: Option<&'a ImageCache>) -> Self {
        Self { cache, ..self }
    }

    /// The objects of the data set by class; empty unless a transform of the list needs them.
    pub(crate) fn objects(&self) -> &'a ObjectIndex {
        self.objects
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
        match cache::load(self.cache, self.dataset, index) {
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
        set: dataset.origin(index).map(|(part, _)| part.path.clone()),
        image_id: dataset.file_id(index),
        annotation_id: None,
        problem: Problem::BrokenImage,
        reason: error.to_string(),
    }
}
