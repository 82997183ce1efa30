//! The settings of the generated data set.

use foveal_base::{SettingError, check};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Kind;

/// The two parts of the generated data set. They have no images in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The training set, with `count` images.
    Train,
    /// The validation set, with `val_count` images.
    Val,
}

impl Split {
    /// Returns the name used for folders and files: `train` or `val`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
        }
    }
}

/// The generated data set of geometric figures (`data.shapes`), used with `data.source = "shapes"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShapesConfig {
    /// Number of training images, from 1 to 1000000. Default: 400.
    pub count: usize,
    /// Number of validation images, at most 1000000. Default: 100.
    pub val_count: usize,
    /// Size `[height, width]` of the images in pixels, each from 16 to 4096. Default: `[192, 192]`.
    pub size: [u32; 2],
    /// Number of classes from 1 to 8. The classes are disc, square, triangle, cross, ring, star, diamond and bar, in
    /// this order. Default: 5.
    pub classes: usize,
    /// Largest number of objects per image, from 1 to 200. Default: 12.
    pub max_objects: usize,
    /// Smallest length of the longer side of an object in pixels, at least 4. Default: 12.
    pub min_object: f32,
    /// Largest length of the longer side of an object as a fraction of the shorter side of the image, up to 1. Default:
    /// 0.5.
    pub max_object: f32,
    /// Ratio of the expected frequencies of the first and the last class, 1 or more. The frequencies in between form a
    /// geometric sequence. Default: 22.
    pub imbalance: f32,
    /// Largest fraction of an object that other objects may cover, from 0 to 1. Default: 0.5.
    pub max_covered: f32,
    /// Range of the hues of a class, from 0 to 1: with 0 each class has one hue, with 1 every class has all hues.
    /// Default: 0.3.
    pub hue_spread: f32,
    /// Strength of the texture of the background, from 0 to 1. Default: 0.5.
    pub texture: f32,
    /// Seed of all random values. Another seed gives another data set. Default: 2.
    pub seed: u64,
}

/// With this seed, the default training set has 1377 discs and 63 figures of the rarest class (a ratio of 21.9), and
/// the validation set has 21 figures of the rarest class.
const DEFAULT_SEED: u64 = 2;
/// Largest number of images of a set. All annotations are generated when the set is opened.
const MAX_IMAGES: u64 = 1_000_000;

impl Default for ShapesConfig {
    fn default() -> Self {
        Self {
            count: 400,
            val_count: 100,
            size: [192, 192],
            classes: 5,
            max_objects: 12,
            min_object: 12.0,
            max_object: 0.5,
            imbalance: 22.0,
            max_covered: 0.5,
            hue_spread: 0.3,
            texture: 0.5,
            seed: DEFAULT_SEED,
        }
    }
}

impl ShapesConfig {
    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// A [`SettingError`] with the first invalid key (relative to `data.shapes`), the expected range and the value
    /// found.
    pub fn validate(&self) -> Result<(), SettingError> {
        let [height, width] = self.size;
        let short = height.min(width) as f32;
        check::count("count", self.count, 1..=MAX_IMAGES)?;
        check::count("val_count", self.val_count, 0..=MAX_IMAGES)?;
        let sides = self.size.iter().all(|side| (16..=4096).contains(side));
        check::that(sides, "size", "[height, width] of 16 to 4096 pixels", &self.size)?;
        let kinds = (1..=Kind::ALL.len()).contains(&self.classes);
        check::that(kinds, "classes", "a number of classes from 1 to 8", &self.classes)?;
        check::that(
            (1..=200).contains(&self.max_objects),
            "max_objects",
            "a number of objects from 1 to 200",
            &self.max_objects,
        )?;
        check::that(self.min_object >= 4.0, "min_object", "at least 4 pixels", &self.min_object)?;
        check::fraction("max_object", self.max_object)?;
        check::that(
            self.max_object * short >= self.min_object,
            "max_object",
            &format!(
                "a fraction that, times the shorter side, is at least min_object, which is {} pixels",
                self.min_object
            ),
            &self.max_object,
        )?;
        let ratio = self.imbalance >= 1.0 && self.imbalance.is_finite();
        check::that(ratio, "imbalance", "a finite number, 1 or more", &self.imbalance)?;
        check::fraction("max_covered", self.max_covered)?;
        check::fraction("hue_spread", self.hue_spread)?;
        check::fraction("texture", self.texture)
    }

    /// Returns the number of images of a split.
    pub fn images(&self, split: Split) -> usize {
        match split {
            Split::Train => self.count,
            Split::Val => self.val_count,
        }
    }

    /// Returns the expected fraction of the objects that each class has, in class order. The fractions add up to 1.
    pub fn frequencies(&self) -> Vec<f32> {
        let last = (self.classes - 1).max(1) as f32;
        let weights: Vec<f32> = (0..self.classes).map(|c| self.imbalance.powf(-(c as f32) / last)).collect();
        let sum: f32 = weights.iter().sum();
        weights.into_iter().map(|w| w / sum).collect()
    }
}
