//! Which images an epoch shows, how often and in what order: a function of seed and epoch.
//!
//! With `f(c)` the fraction of images that have class `c`, and the threshold `t` (`data.repeat_threshold`), an image is
//! shown as often as the rarest of its classes asks for:
//!
//! | sampler | a class asks for |
//! |---|---|
//! | `uniform` | 1 |
//! | `repeat_factor` | `max(1, sqrt(t / f(c)))` (Gupta et al., LVIS, arXiv 1908.03195, section 5.1) |
//! | `oversample` | `max(1, t / f(c))`: classes below the threshold are brought up to it |
//! | `undersample` | `min(1, t / f(c))`: classes above it are brought down to it |
//!
//! Images without objects count as a class of their own under `undersample`, and are shown once else. A fractional
//! number is met on average over the epochs: of `r` copies, `floor(r)` or one more come in each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random::Stream;
use crate::{DataConfig, Dataset};

/// Separates the shuffle's and the rounding's random streams from those of the samples.
const SHUFFLE: u64 = 11;
const ROUNDING: u64 = 13;

/// How often images are shown (`data.sampler`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Each once an epoch.
    #[default]
    Uniform,
    /// Rare classes more often, by the square root.
    RepeatFactor,
    /// Rare classes as often as the threshold.
    Oversample,
    /// Frequent classes no more often than the threshold.
    Undersample,
}

impl Sampler {
    /// How often a class that is on `on` of `images` images asks to be shown: the table above. One that is on none is
    /// taken to be on one.
    pub fn asks(self, on: usize, images: usize, threshold: f64) -> f64 {
        let rarity = threshold * images as f64 / on.max(1) as f64;
        match self {
            Self::Uniform => 1.0,
            Self::RepeatFactor => rarity.sqrt().max(1.0),
            Self::Oversample => rarity.max(1.0),
            Self::Undersample => rarity.min(1.0),
        }
    }
}

/// How often an image is shown in an epoch, for each image.
///
/// # Panics
/// The threshold is not positive.
pub fn repeats(dataset: &Dataset, sampler: Sampler, threshold: f64) -> Vec<f64> {
    assert!(threshold > 0.0, "a threshold of {threshold}");
    let images: Vec<Vec<usize>> = dataset
        .records()
        .iter()
        .map(|record| {
            let mut classes: Vec<usize> = record.objects.iter().map(|o| o.class as usize).collect();
            classes.sort_unstable();
            classes.dedup();
            classes
        })
        .collect();
    factors(&images, dataset.label_map().len(), sampler, threshold)
}

/// The same from the classes of each image, without repetition.
fn factors(images: &[Vec<usize>], classes: usize, sampler: Sampler, threshold: f64) -> Vec<f64> {
    // The last is that of images without objects.
    let mut on = vec![0usize; classes + 1];
    for of_image in images {
        of_image.iter().for_each(|class| on[*class] += 1);
        on[classes] += usize::from(of_image.is_empty());
    }
    let asks = |class: usize| match sampler {
        Sampler::RepeatFactor | Sampler::Oversample if class == classes => 1.0,
        _ => sampler.asks(on[class], images.len(), threshold),
    };
    let of = |image: &Vec<usize>| image.iter().map(|class| asks(*class)).fold(0.0, f64::max);
    images.iter().map(|image| if image.is_empty() { asks(classes) } else { of(image) }).collect()
}

/// The images of an epoch in order. All epochs have the same number, the rounded sum of what images ask for, at least
/// one.
pub fn epoch_order(dataset: &Dataset, config: &DataConfig, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..dataset.len()).collect();
    if config.sampler != Sampler::Uniform && !order.is_empty() {
        // Shuffled before the rounding as well, so that neighbours in the file do not depend on each other.
        Stream::new(&[seed, epoch, ROUNDING]).shuffle(&mut order);
        let repeats = repeats(dataset, config.sampler, config.repeat_threshold);
        let start = f64::from(Stream::new(&[seed, epoch, ROUNDING, 1]).uniform());
        order = copies(&order, &repeats, start);
    }
    Stream::new(&[seed, epoch, SHUFFLE]).shuffle(&mut order);
    order
}

/// The number of images of an epoch.
pub fn epoch_len(dataset: &Dataset, config: &DataConfig) -> usize {
    match config.sampler {
        Sampler::Uniform => dataset.len(),
        _ if dataset.is_empty() => 0,
        sampler => whole(&repeats(dataset, sampler, config.repeat_threshold)),
    }
}

fn whole(repeats: &[f64]) -> usize {
    (repeats.iter().sum::<f64>().round() as usize).max(1)
}

/// Systematic sampling: a comb with teeth at `start`, `start + 1`, … falls on the images laid end to end, each as long
/// as its number of repeats, all together scaled to a whole length.
fn copies(order: &[usize], repeats: &[f64], start: f64) -> Vec<usize> {
    let count = whole(repeats);
    let scale = count as f64 / repeats.iter().sum::<f64>();
    let (mut copies, mut end) = (Vec::with_capacity(count), 0.0);
    for image in order {
        end += repeats[*image] * scale;
        while copies.len() < count && start + (copies.len() as f64) < end {
            copies.push(*image);
        }
    }
    // Rounding of the sum may leave the last tooth just beyond the end.
    copies.extend(std::iter::repeat_n(order[order.len() - 1], count - copies.len()));
    copies
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four images: class 0 on all but the empty one, class 1 on one.
    fn images() -> Vec<Vec<usize>> {
        vec![vec![0], vec![0, 1], vec![0], vec![]]
    }

    #[test]
    fn factors_by_hand() {
        let of = |sampler, threshold| factors(&images(), 2, sampler, threshold);
        // f = 3/4 and 1/4; t = 1: sqrt(4/3), sqrt(4) = 2.
        let root = (4f64 / 3.0).sqrt();
        assert_eq!(of(Sampler::RepeatFactor, 1.0), [root, 2.0, root, 1.0]);
        assert_eq!(of(Sampler::RepeatFactor, 0.5), [1.0, 2f64.sqrt(), 1.0, 1.0]);
        assert_eq!(of(Sampler::Oversample, 0.5), [1.0, 2.0, 1.0, 1.0]);
        // t = 3/8 halves class 0, but not on the image with class 1; the empty images are 1/4 of all.
        assert_eq!(of(Sampler::Undersample, 0.375), [0.5, 1.0, 0.5, 1.0]);
        assert_eq!(of(Sampler::Uniform, 0.001), [1.0; 4]);
        // LVIS's own example: with t = 0.001, a class on 1 of 10000 images is repeated sqrt(10) times.
        let mut many = vec![vec![0]; 9999];
        many.push(vec![1]);
        let factors = factors(&many, 2, Sampler::RepeatFactor, 0.001);
        assert_eq!(factors[0], 1.0);
        assert!((factors[9999] - 10f64.sqrt()).abs() < 1e-12);
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
