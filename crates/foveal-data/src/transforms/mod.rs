//! The list `data.augment.transforms`: random changes of training images, applied in the order of the list to the
//! decoded image, before `color_jitter`, the flips and resizing.
//!
//! - Each transform has a random stream of its own, keyed by (seed, epoch, index of the image, position in the list).
//!   Its first number decides with `probability` whether the transform is applied. A change of one transform therefore
//!   does not change the random values of the others, as long as their positions stay.
//! - A transform of the pixels implements [`PixelTransform`]; one that also moves or adds objects implements
//!   [`SampleTransform`].
//! - Objects that a transform cuts follow one rule: if less than a quarter of the box of the whole object remains
//!   visible after all cuts (`MIN_VISIBLE_FRACTION`), the rest is an ignored region; objects outside the image are
//!   dropped. Objects smaller than `data.min_box` after resizing are ignored.

mod affine;
mod blur;
mod collage;
mod context;
mod copy_paste;
mod erasing;
mod gamma;
mod grey;
mod hsv;
mod jpeg;
mod large_scale_jitter;
mod mixup;
mod mosaic;
mod noise;
mod quarter_turns;
mod random_crop;
mod range;
mod sizes;
#[cfg(test)]
mod tests;
mod times;
mod warp;
mod working;
mod zoom_out;

use foveal_base::SettingError;
use foveal_image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DataError, Stream};

pub use affine::Affine;
pub use blur::Blur;
pub use copy_paste::CopyPaste;
pub use erasing::{Erasing, Filling};
pub use gamma::Gamma;
pub use grey::Grey;
pub use hsv::Hsv;
pub use jpeg::Jpeg;
pub use large_scale_jitter::LargeScaleJitter;
pub use mixup::Mixup;
pub use mosaic::Mosaic;
pub use noise::Noise;
pub use quarter_turns::QuarterTurns;
pub use random_crop::RandomCrop;
pub use times::{TransformCost, TransformCosts, TransformTime, TransformTimes};
pub use zoom_out::ZoomOut;

pub(crate) use context::{Context, Frame, REPLACEMENTS, unloadable};
pub(crate) use copy_paste::ObjectIndex;
pub(crate) use working::Working;

/// One entry of `data.augment.transforms`: the key `kind` selects the transform, the other keys are its settings. Keys
/// that are left out have their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Transform {
    /// Crops images so that some object overlaps well with the crop.
    RandomCrop(RandomCrop),
    /// Puts images at a random place of a larger canvas.
    ZoomOut(ZoomOut),
    /// Rotates, scales, translates and shears images.
    Affine(Affine),
    /// Turns images by multiples of 90 degrees.
    QuarterTurns(QuarterTurns),
    /// Resizes images by a large range of factors onto a canvas of fixed size.
    LargeScaleJitter(LargeScaleJitter),
    /// Combines four images in one.
    Mosaic(Mosaic),
    /// Blends two images.
    Mixup(Mixup),
    /// Pastes objects of other images, rare classes first.
    CopyPaste(CopyPaste),
    /// Changes hue, saturation and value.
    Hsv(Hsv),
    /// Gamma correction.
    Gamma(Gamma),
    /// Gaussian blur.
    Blur(Blur),
    /// Gaussian noise.
    Noise(Noise),
    /// Artefacts of JPEG compression.
    Jpeg(Jpeg),
    /// Turns colour images into grey ones.
    Grey(Grey),
    /// Fills random rectangles.
    Erasing(Erasing),
}

/// What all transforms have.
pub(crate) trait Settings {
    /// Probability that the transform is applied to an image, from 0 to 1.
    fn probability(&self) -> f32;

    /// Whether the transform is left out in the last `data.augment.close_epochs` epochs, because its images differ much
    /// from real ones.
    fn is_strong(&self) -> bool {
        false
    }

    /// Whether the transform can change the size of the image.
    fn changes_size(&self) -> bool {
        false
    }

    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// A [`SettingError`] with the first invalid key, the expected range and the value found.
    fn validate(&self) -> Result<(), SettingError>;
}

/// A transform of the pixels alone. It keeps the size of the image and the places of its objects.
pub(crate) trait PixelTransform: Settings {
    /// Changes the image.
    fn change(&self, image: &mut RgbImage, random: &mut Stream);
}

/// A transform of an image with its objects.
pub(crate) trait SampleTransform: Settings {
    /// Changes the image and its objects. All boxes lie in the image afterwards.
    ///
    /// # Errors
    /// The error of [`Context::load`] if another image cannot be loaded.
    fn change(&self, sample: &mut Working, context: &mut Context<'_>, random: &mut Stream) -> Result<(), DataError>;
}

/// A transform by what it changes.
enum Step<'a> {
    /// The pixels alone.
    Pixels(&'a dyn PixelTransform),
    /// The image with its objects.
    Sample(&'a dyn SampleTransform),
}

impl Transform {
    fn step(&self) -> Step<'_> {
        match self {
            Self::RandomCrop(t) => Step::Sample(t),
            Self::ZoomOut(t) => Step::Sample(t),
            Self::Affine(t) => Step::Sample(t),
            Self::QuarterTurns(t) => Step::Sample(t),
            Self::LargeScaleJitter(t) => Step::Sample(t),
            Self::Mosaic(t) => Step::Sample(t),
            Self::Mixup(t) => Step::Sample(t),
            Self::CopyPaste(t) => Step::Sample(t),
            Self::Hsv(t) => Step::Pixels(t),
            Self::Gamma(t) => Step::Pixels(t),
            Self::Blur(t) => Step::Pixels(t),
            Self::Noise(t) => Step::Pixels(t),
            Self::Jpeg(t) => Step::Pixels(t),
            Self::Grey(t) => Step::Pixels(t),
            Self::Erasing(t) => Step::Sample(t),
        }
    }

    /// Returns the value of the key `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RandomCrop(_) => "random_crop",
            Self::ZoomOut(_) => "zoom_out",
            Self::Affine(_) => "affine",
            Self::QuarterTurns(_) => "quarter_turns",
            Self::LargeScaleJitter(_) => "large_scale_jitter",
            Self::Mosaic(_) => "mosaic",
            Self::Mixup(_) => "mixup",
            Self::CopyPaste(_) => "copy_paste",
            Self::Hsv(_) => "hsv",
            Self::Gamma(_) => "gamma",
            Self::Blur(_) => "blur",
            Self::Noise(_) => "noise",
            Self::Jpeg(_) => "jpeg",
            Self::Grey(_) => "grey",
            Self::Erasing(_) => "erasing",
        }
    }

    fn settings(&self) -> &dyn Settings {
        match self.step() {
            Step::Pixels(t) => t,
            Step::Sample(t) => t,
        }
    }

    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// A [`SettingError`] with the first invalid key, relative to the entry of the list.
    pub(crate) fn validate(&self) -> Result<(), SettingError> {
        self.settings().validate()
    }

    /// Whether the transform can change the size of an image.
    pub(crate) fn changes_size(&self) -> bool {
        self.settings().changes_size()
    }

    /// Returns whether the transform is left out in the last `data.augment.close_epochs` epochs.
    pub fn is_strong(&self) -> bool {
        self.settings().is_strong()
    }

    /// Applies the transform with its probability, and returns whether it did.
    ///
    /// # Errors
    /// The error of [`Context::load`] if another image cannot be loaded.
    pub(crate) fn apply(
        &self,
        sample: &mut Working,
        context: &mut Context<'_>,
        random: &mut Stream,
    ) -> Result<bool, DataError> {
        if !random.chance(self.settings().probability()) {
            return Ok(false);
        }
        match self.step() {
            Step::Pixels(t) => t.change(&mut sample.image, random),
            Step::Sample(t) => t.change(sample, context, random)?,
        }
        Ok(true)
    }
}
