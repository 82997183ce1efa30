//! How many images of what.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::DataError;

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// [`DataError::Setting`]: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), DataError> {
        let fraction = |v: f32| (0.0..=1.0).contains(&v);
        let [height, width] = self.size;
        let short = height.min(width) as f32;
        for (good, key, found, expected) in [
            (self.count > 0, "data.shapes.count", self.count.to_string(), "at least 1"),
            (
                (16..=4096).contains(&height) && (16..=4096).contains(&width),
                "data.shapes.size",
                format!("{:?}", self.size),
                "[height, width] of 16 to 4096 pixels",
            ),
            (
                (1..=Kind::ALL.len()).contains(&self.classes),
                "data.shapes.classes",
                self.classes.to_string(),
                "1 to 8, the kinds of figure there are",
            ),
            (
                (1..=200).contains(&self.max_objects),
                "data.shapes.max_objects",
                self.max_objects.to_string(),
                "1 to 200",
            ),
            (self.min_object >= 4.0, "data.shapes.min_object", self.min_object.to_string(), "at least 4 pixels"),
            (
                fraction(self.max_object) && self.max_object * short >= self.min_object,
                "data.shapes.max_object",
                self.max_object.to_string(),
                "a fraction of the shorter side, not below min_object",
            ),
            (
                self.imbalance >= 1.0 && self.imbalance.is_finite(),
                "data.shapes.imbalance",
                self.imbalance.to_string(),
                "at least 1",
            ),
            (fraction(self.max_covered), "data.shapes.max_covered", self.max_covered.to_string(), "0 to 1"),
            (fraction(self.hue_spread), "data.shapes.hue_spread", self.hue_spread.to_string(), "0 to 1"),
            (fraction(self.texture), "data.shapes.texture", self.texture.to_string(), "0 to 1"),
        ] {
            if !good {
                return Err(DataError::Setting { key, found, expected });
            }
        }
        Ok(())
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
