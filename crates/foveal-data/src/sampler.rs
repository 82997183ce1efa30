//! The images of an epoch: which images are used, how often and in which order, as a function of seed and epoch.
//!
//! Each class has a repeat factor. It depends on the fraction `f(c)` of the images that have class `c` and on the
//! threshold `t` (`data.repeat_threshold`). The repeat factor of an image is the largest repeat factor of its classes:
//!
//! | sampler | repeat factor of a class |
//! |---|---|
//! | `uniform` | 1 |
//! | `repeat_factor` | `max(1, sqrt(t / f(c)))` (Gupta et al., LVIS, arXiv 1908.03195, section 5.1) |
//! | `oversample` | `max(1, t / f(c))`: classes with a fraction below the threshold are repeated up to it |
//! | `undersample` | `min(1, t / f(c))`: classes with a fraction above the threshold are reduced to it |
//!
//! The sets of `data.more_train` have weights, which the repeat factors of their images are multiplied by. Images of
//! `data.backgrounds` have the repeat factor 1 and do not count in `f(c)`; `data.backgrounds_share` gives them all the
//! weight with which they have this share of an epoch, if they would have more.
//!
//! Images without objects are used once per epoch; with `undersample` they count as a class of their own. A fractional
//! repeat factor `r` is reached on average over the epochs: each epoch has `floor(r)` or `floor(r) + 1` copies. The
//! number of images of each set in an epoch differs from its mean by less than 1.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DataConfig, Dataset, Stream};

/// Keys that separate the random streams of shuffling and rounding from those of the samples.
const SHUFFLE: u64 = 11;
const ROUNDING: u64 = 13;

/// The rule for how often each training image is used in an epoch (`data.sampler`). A class is rare if the fraction `f`
/// of the images that contain it is below the threshold `t` (`data.repeat_threshold`), and frequent otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Each image is used once per epoch. This is the default.
    #[default]
    Uniform,
    /// Repeat factor sampling: an image is used `sqrt(t / f)` times on average, where `f` is the fraction of its rarest
    /// class, but at least once (Gupta et al., LVIS, arXiv 1908.03195, section 5.1).
    RepeatFactor,
    /// An image is used `t / f` times on average, where `f` is the fraction of its rarest class, but at least once.
    /// This raises the fraction of each rare class to the threshold.
    Oversample,
    /// An image whose classes are all frequent is used in a fraction `t / f` of the epochs, where `f` is the fraction
    /// of its rarest class. This lowers the fractions of frequent classes towards the threshold.
    Undersample,
}

impl Sampler {
    /// Returns the repeat factor of a class that occurs on `images_with_class` of `images` images, where `threshold` is
    /// `data.repeat_threshold`. With the fraction `f = images_with_class / images` and the threshold `t`, it is 1 for
    /// `Uniform`, `max(1, sqrt(t / f))` for `RepeatFactor`, `max(1, t / f)` for `Oversample` and `min(1, t / f)` for
    /// `Undersample`. A class without images counts as a class on one image.
    pub fn class_repeat_factor(self, images_with_class: usize, images: usize, threshold: f64) -> f64 {
        let rarity = threshold * images as f64 / images_with_class.max(1) as f64;
        match self {
            Self::Uniform => 1.0,
            Self::RepeatFactor => rarity.sqrt().max(1.0),
            Self::Oversample => rarity.max(1.0),
            Self::Undersample => rarity.min(1.0),
        }
    }
}

/// Returns how often each image of a data set is used in an epoch on average: the largest repeat factor of its classes
/// ([`Sampler::class_repeat_factor`]). Images without objects get 1, or with [`Sampler::Undersample`] the repeat factor
/// of a class of their own. Images of `data.backgrounds` always get 1 and do not count in the fractions of the classes.
///
/// # Panics
/// If the threshold is not positive.
pub fn image_repeat_factors(dataset: &Dataset, sampler: Sampler, threshold: f64) -> Vec<f64> {
    assert!(threshold > 0.0, "the repeat threshold must be positive, found {threshold}");
    let is_counted = |index: &usize| !dataset.is_from_backgrounds(*index);
    let counted: Vec<usize> = (0..dataset.len()).filter(is_counted).collect();
    let images: Vec<Vec<usize>> = counted
        .iter()
        .map(|&index| {
            let record = dataset.record(index);
            let mut classes: Vec<usize> = record.objects.iter().map(|o| o.class as usize).collect();
            classes.sort_unstable();
            classes.dedup();
            classes
        })
        .collect();
    let mut all = vec![1.0; dataset.len()];
    for (index, factor) in counted.into_iter().zip(factors(&images, dataset.label_map().len(), sampler, threshold)) {
        all[index] = factor;
    }
    all
}

/// The repeat factor of each image. `images` has the classes of each image, without duplicates.
fn factors(images: &[Vec<usize>], classes: usize, sampler: Sampler, threshold: f64) -> Vec<f64> {
    // The number of images with each class; the last entry counts the images without objects.
    let mut with_class = vec![0usize; classes + 1];
    for of_image in images {
        of_image.iter().for_each(|class| with_class[*class] += 1);
        with_class[classes] += usize::from(of_image.is_empty());
    }
    let factor = |class: usize| match sampler {
        Sampler::RepeatFactor | Sampler::Oversample if class == classes => 1.0,
        _ => sampler.class_repeat_factor(with_class[class], images.len(), threshold),
    };
    let of = |image: &Vec<usize>| image.iter().map(|class| factor(*class)).fold(0.0, f64::max);
    images.iter().map(|image| if image.is_empty() { factor(classes) } else { of(image) }).collect()
}

/// Returns the indices of the training images of an epoch, in random order. Indices can be repeated or missing,
/// depending on `config.sampler` and the weights of sets. The result is a function of the seed and the epoch. Every
/// epoch has [`epoch_len`] images.
///
/// # Panics
/// If `config.repeat_threshold` is not positive and the sampler is not [`Sampler::Uniform`].
pub fn epoch_order(dataset: &Dataset, config: &DataConfig, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..dataset.len()).collect();
    if let Some(uses) = uses(dataset, config).filter(|_| !order.is_empty()) {
        // The order is also shuffled before rounding, so that the copies of neighbouring images are independent.
        Stream::new(&[seed, epoch, ROUNDING]).shuffle(&mut order);
        // The images of a set are neighbours, so that it has its share of every epoch.
        order.sort_by_key(|&index| dataset.part_index(index));
        let start = f64::from(Stream::new(&[seed, epoch, ROUNDING, 1]).uniform());
        order = copies(&order, &uses, start);
    }
    Stream::new(&[seed, epoch, SHUFFLE]).shuffle(&mut order);
    order
}

/// Returns the number of images of an epoch, with repetitions: the number of images of the data set for
/// [`Sampler::Uniform`] and sets of equal weight, otherwise the rounded sum of the repeat factors of the images, each
/// multiplied by the weight of its set, at least 1. An empty data set has 0.
///
/// # Panics
/// If `config.repeat_threshold` is not positive and the sampler is not [`Sampler::Uniform`].
pub fn epoch_len(dataset: &Dataset, config: &DataConfig) -> usize {
    match uses(dataset, config) {
        Some(uses) if !uses.is_empty() => rounded_sum(&uses),
        _ => dataset.len(),
    }
}

/// How often each image is used in an epoch on average: its repeat factor times the weight of its set. `None` if each
/// is used once.
pub(crate) fn uses(dataset: &Dataset, config: &DataConfig) -> Option<Vec<f64>> {
    let origins = || (0..dataset.len()).map(|index| dataset.origin(index).map(|(part, _)| part));
    let weighted = dataset.parts().iter().any(|part| part.weight != 1.0);
    let backgrounds = origins().flatten().filter(|part| part.backgrounds).count();
    let share = config.backgrounds_share.filter(|_| backgrounds > 0);
    if config.sampler == Sampler::Uniform && !weighted && share.is_none() {
        return None;
    }
    let mut uses = image_repeat_factors(dataset, config.sampler, config.repeat_threshold);
    for (uses, part) in uses.iter_mut().zip(origins()) {
        *uses *= part.map_or(1.0, |part| part.weight);
    }
    if let Some(share) = share {
        let is_background: Vec<bool> = origins().map(|part| part.is_some_and(|part| part.backgrounds)).collect();
        limit_share(&mut uses, &is_background, share);
    }
    Some(uses)
}

/// Lowers the uses of some images so that they have at most the fraction `share` of all uses.
fn limit_share(uses: &mut [f64], limited: &[bool], share: f64) {
    let sum = |uses: &[f64], of: bool| -> f64 {
        uses.iter().zip(limited).filter(|(_, limited)| **limited == of).map(|(uses, _)| uses).sum()
    };
    let most = share / (1.0 - share) * sum(uses, false);
    // Without other images there is nothing to have a share of.
    let factor = if most > 0.0 { (most / sum(uses, true)).min(1.0) } else { 1.0 };
    uses.iter_mut().zip(limited).filter(|(_, limited)| **limited).for_each(|(uses, _)| *uses *= factor);
}

/// The rounded sum of the repeat factors, at least 1.
fn rounded_sum(repeats: &[f64]) -> usize {
    (repeats.iter().sum::<f64>().round() as usize).max(1)
}

/// Systematic sampling: the images are laid out on a line, each with its repeat factor as length, and the line is
/// scaled to an integer length. The positions `start`, `start + 1`, ... select the copies.
fn copies(order: &[usize], repeats: &[f64], start: f64) -> Vec<usize> {
    let count = rounded_sum(repeats);
    let scale = count as f64 / repeats.iter().sum::<f64>();
    let (mut copies, mut end) = (Vec::with_capacity(count), 0.0);
    for image in order {
        end += repeats[*image] * scale;
        while copies.len() < count && start + (copies.len() as f64) < end {
            copies.push(*image);
        }
    }
    // Rounding errors can leave the last position just beyond the end.
    copies.extend(std::iter::repeat_n(order[order.len() - 1], count - copies.len()));
    copies
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four images: class 0 on three of them, class 1 on one of these, and one image without objects.
    fn images() -> Vec<Vec<usize>> {
        vec![vec![0], vec![0, 1], vec![0], vec![]]
    }

    #[test]
    fn factors_by_hand() {
        let of = |sampler, threshold| factors(&images(), 2, sampler, threshold);
        // The fractions are 3/4 and 1/4. With t = 1 the factors are sqrt(4/3) and sqrt(4) = 2.
        let root = (4f64 / 3.0).sqrt();
        assert_eq!(of(Sampler::RepeatFactor, 1.0), [root, 2.0, root, 1.0]);
        assert_eq!(of(Sampler::RepeatFactor, 0.5), [1.0, 2f64.sqrt(), 1.0, 1.0]);
        assert_eq!(of(Sampler::Oversample, 0.5), [1.0, 2.0, 1.0, 1.0]);
        // t = 3/8 halves class 0, except on the image with class 1. The images without objects are 1/4 of all.
        assert_eq!(of(Sampler::Undersample, 0.375), [0.5, 1.0, 0.5, 1.0]);
        assert_eq!(of(Sampler::Uniform, 0.001), [1.0; 4]);
        // The example of LVIS: with t = 0.001, a class on 1 of 10000 images is repeated sqrt(10) times.
        let mut many = vec![vec![0]; 9999];
        many.push(vec![1]);
        let factors = factors(&many, 2, Sampler::RepeatFactor, 0.001);
        assert_eq!(factors[0], 1.0);
        assert!((factors[9999] - 10f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_share_is_a_limit() {
        // The first two images have 4 of 10 uses; a third of the uses is 3 beside the 6 of the others.
        let mut uses = [1.0, 3.0, 2.0, 4.0];
        limit_share(&mut uses, &[true, true, false, false], 1.0 / 3.0);
        assert!((uses[0] - 0.75).abs() < 1e-12 && (uses[1] - 2.25).abs() < 1e-12, "{uses:?}");
        assert_eq!(uses[2..], [2.0, 4.0]);
        // They have less, or there is nothing else.
        for (limited, share) in [([true, false, false, false], 0.5), ([true; 4], 0.1)] {
            let mut uses = [1.0, 3.0, 2.0, 4.0];
            limit_share(&mut uses, &limited, share);
            assert_eq!(uses, [1.0, 3.0, 2.0, 4.0]);
        }
    }

    #[test]
    fn copies_are_the_factors_on_average() {
        let (order, repeats) = ([3, 0, 2, 1], [1.0, 2.5, 0.25, 1.25]);
        let mut counts = [0; 4];
        let starts = 1000;
        for i in 0..starts {
            let copies = copies(&order, &repeats, f64::from(i) / f64::from(starts));
            assert_eq!(copies.len(), 5);
            for (image, repeat) in repeats.iter().enumerate() {
                let found = copies.iter().filter(|c| **c == image).count();
                assert!((found as f64 - repeat).abs() < 1.0, "{image}: {found}");
                counts[image] += found;
            }
        }
        for (count, repeat) in counts.iter().zip(repeats) {
            assert!((*count as f64 / f64::from(starts) - repeat).abs() < 2e-3, "{counts:?}");
        }
    }
}
