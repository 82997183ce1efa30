//! The sets that a data set was joined from.

use serde::Serialize;

use crate::sampler::uses;
use crate::{DataConfig, Dataset};

/// One of the sets that a training set was joined from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The configuration key of the set, such as `data.train` or `data.more_train[0]`.
    pub key: String,
    /// Path of the annotation file, or of the folder of background images.
    pub path: String,
    /// How often each image of the set is used in an epoch, apart from its repeat factor and
    /// `data.backgrounds_share`.
    pub weight: f64,
    /// Whether this is a folder of background images.
    pub backgrounds: bool,
}

/// The origin of the images of a data set. Empty for a set that was not joined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    pub list: Vec<Part>,
    /// Index in `list` of each image: `[images]`.
    pub of: Vec<usize>,
    /// The id of each image in its own file: `[images]`. An image of a folder has its position in it, from 1.
    pub ids: Vec<i64>,
}

impl Parts {
    /// The origin of the images with these indices.
    pub(crate) fn select(&self, indices: &[usize]) -> Self {
        if self.list.is_empty() {
            return Self::default();
        }
        let of = indices.iter().map(|&index| self.of[index]).collect();
        Self { list: self.list.clone(), of, ids: indices.iter().map(|&index| self.ids[index]).collect() }
    }
}

impl Dataset {
    /// Returns the sets that a training set of several sets was joined from, in the order of the configuration. Empty
    /// for any other data set.
    pub fn parts(&self) -> &[Part] {
        &self.parts.list
    }

    /// Returns the set that image `index` is from, and its id in the annotation file of that set. `None` for a data set
    /// that was not joined from several.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`] of a set that was joined.
    pub fn origin(&self, index: usize) -> Option<(&Part, i64)> {
        (!self.parts.list.is_empty()).then(|| (&self.parts.list[self.parts.of[index]], self.parts.ids[index]))
    }

    /// Returns whether image `index` is from a folder of background images.
    pub(crate) fn is_from_backgrounds(&self, index: usize) -> bool {
        self.origin(index).is_some_and(|(part, _)| part.backgrounds)
    }

    /// The index of the set that image `index` is from; 0 in a data set that was not joined.
    pub(crate) fn part_index(&self, index: usize) -> usize {
        self.parts.of.get(index).copied().unwrap_or(0)
    }

    /// The id of image `index` in its own annotation file.
    pub(crate) fn file_id(&self, index: usize) -> i64 {
        self.origin(index).map_or(self.records[index].image_id, |(_, id)| id)
    }
}

/// How a set takes part in the epochs of a training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartUse {
    /// The set.
    #[serde(flatten)]
    pub part: Part,
    /// Number of images of the set that can be used.
    pub images: usize,
    /// Number of images of the set in an epoch on average, with repetitions.
    pub per_epoch: f64,
}

/// Returns how each of the sets that a training set was joined from takes part in an epoch. Empty for any other data
/// set.
///
/// # Panics
/// If `config.repeat_threshold` is not positive and the sampler is not [`Sampler::Uniform`](crate::Sampler::Uniform).
pub fn part_uses(dataset: &Dataset, config: &DataConfig) -> Vec<PartUse> {
    let list = dataset.parts().iter();
    let mut all: Vec<PartUse> = list.map(|part| PartUse { part: part.clone(), images: 0, per_epoch: 0.0 }).collect();
    if all.is_empty() {
        return all;
    }
    let uses = uses(dataset, config);
    for (index, &part) in dataset.parts.of.iter().enumerate() {
        all[part].images += 1;
        all[part].per_epoch += uses.as_ref().map_or(1.0, |uses| uses[index]);
    }
    all
}

impl std::fmt::Display for PartUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Part { key, path, .. } = &self.part;
        let path = foveal_base::printable(path);
        write!(f, "{key} {path}: {} images, {:.0} in an epoch", self.images, self.per_epoch)
    }
}
