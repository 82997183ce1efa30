//! How many images of what.

use foveal_base::{SettingError, check};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Kind;

/// The two disjoint halves of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// For training.
    Train,
    /// For validation.
    Val,
}

impl Split {
    /// Folder and file name.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
        }
    }
}

/// The generated set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShapesConfig {
    /// Training images.
    pub count: usize,
    /// Validation images.
    pub val_count: usize,
    /// `[height, width]` in pixels.
    pub size: [u32; 2],
    /// The first so many kinds of figure.
    pub classes: usize,
    /// Most objects on an image.
    pub max_objects: usize,
    /// Smallest longer side of an object in pixels.
    pub min_object: f32,
    /// Largest longer side of an object as a fraction of the image's shorter side.
    pub max_object: f32,
    /// How many times more frequent the first class is than the last, in expectation; geometric in between.
    pub imbalance: f32,
    /// An object is never covered by more than this fraction.
    pub max_covered: f32,
    /// How far a class's colours spread: 0 gives each its own hue, 1 any hue to any class.
    pub hue_spread: f32,
    /// Strength of the backgrounds' texture, 0 to 1.
    pub texture: f32,
    /// Another seed is another set.
    pub seed: u64,
}

/// With this seed the default training set has 1377 discs and 63 of the rarest figure, 21.9 to 1, and the
/// validation set 21 of the rarest.
const DEFAULT_SEED: u64 = 2;

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
    /// Refuses values that no set can be made of.
    ///
    /// # Errors
    /// The first such key below `data.shapes`, what is possible, and the value.
    pub fn validate(&self) -> Result<(), SettingError> {
        let [height, width] = self.size;
        let short = height.min(width) as f32;
        check::at_least_one("count", self.count)?;
        let sides = self.size.iter().all(|side| (16..=4096).contains(side));
        check::that(sides, "size", "[height, width] of 16 to 4096 pixels", &self.size)?;
        let kinds = (1..=Kind::ALL.len()).contains(&self.classes);
        check::that(kinds, "classes", "1 to 8, the kinds of figure there are", &self.classes)?;
        check::that((1..=200).contains(&self.max_objects), "max_objects", "1 to 200", &self.max_objects)?;
        check::that(self.min_object >= 4.0, "min_object", "at least 4 pixels", &self.min_object)?;
        check::fraction("max_object", self.max_object)?;
        check::that(
            self.max_object * short >= self.min_object,
            "max_object",
            &format!("a fraction of the shorter side that is not below min_object, {} pixels", self.min_object),
            &self.max_object,
        )?;
        let ratio = self.imbalance >= 1.0 && self.imbalance.is_finite();
        check::that(ratio, "imbalance", "a finite number, 1 or more", &self.imbalance)?;
        check::fraction("max_covered", self.max_covered)?;
        check::fraction("hue_spread", self.hue_spread)?;
        check::fraction("texture", self.texture)
    }

    /// The number of images of a split.
    pub fn images(&self, split: Split) -> usize {
        match split {
            Split::Train => self.count,
            Split::Val => self.val_count,
        }
    }

    /// The share of each class, by class; they add up to 1.
    pub fn frequencies(&self) -> Vec<f32> {
        let last = (self.classes - 1).max(1) as f32;
        let weights: Vec<f32> = (0..self.classes).map(|c| self.imbalance.powf(-(c as f32) / last)).collect();
        let sum: f32 = weights.iter().sum();
        weights.into_iter().map(|w| w / sum).collect()
    }
}
