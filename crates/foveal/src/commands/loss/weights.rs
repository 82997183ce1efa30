//! Effect of class weights and repeated images on a data set.

use foveal_data::{Sampler, TargetCounts};
use serde::Serialize;

/// The values of beta that Cui et al. (arXiv 1901.05555) use.
const BETAS: [f64; 4] = [0.9, 0.99, 0.999, 0.9999];

/// The beta for weights by effective number, given the number of objects of each class: the smallest published value
/// whose limit 1 / (1 - beta) is at least the number of objects of the most frequent class, else the largest one.
pub(super) fn beta_for(objects: &[usize]) -> f64 {
    let most = objects.iter().copied().max().unwrap_or(0) as f64;
    // In floating point, 1 / (1 - 0.9) is just below 10.
    BETAS.into_iter().find(|beta| (1.0 / (1.0 - beta)).round() >= most).unwrap_or(BETAS[3])
}

/// Effect of repeat factor sampling, which repeats images by their rarest class (Gupta et al., arXiv 1908.03195,
/// section 5.1).
#[derive(Clone, Debug, Serialize)]
pub(super) struct Repeats {
    /// Classes in fewer than this fraction of the images are repeated.
    pub threshold: f64,
    /// For each class, how often per epoch an image with this class is shown at least.
    pub factors: Vec<f64>,
    /// For each class, the expected number of objects in an epoch with these repeats.
    pub objects: Vec<f64>,
}

impl Repeats {
    /// Computes the factors `r(c) = max(1, sqrt(threshold / f(c)))` of the classes, where `f(c)` is the fraction of
    /// images with class `c`. An image has the largest factor of its classes.
    pub(super) fn new(counts: &TargetCounts, threshold: f64) -> Self {
        let factor = |on: usize| match on {
            0 => 1.0,
            _ => Sampler::RepeatFactor.class_repeat_factor(on, counts.images, threshold),
        };
        let factors: Vec<f64> = counts.classes.iter().map(|class| factor(class.images)).collect();
        let mut objects = vec![0.0; factors.len()];
        for classes in &counts.by_image {
            let repeat = classes.iter().map(|class| factors[*class as usize]).fold(1.0, f64::max);
            classes.iter().for_each(|class| objects[*class as usize] += repeat);
        }
        Self { threshold, factors, objects }
    }
}

/// The ratio of the number of objects of the most frequent class to that of the rarest class that occurs; 1 if there
/// are no objects.
pub(super) fn imbalance(objects: impl Iterator<Item = f64> + Clone) -> f64 {
    let present = objects.filter(|n| *n > 0.0);
    let most = present.clone().fold(0.0, f64::max);
    let least = present.fold(f64::INFINITY, f64::min);
    if most > 0.0 { most / least } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_data::ClassCounts;

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-9, "{found:?}, not {expected:?}"));
    }

    #[test]
    fn betas_match_values_computed_by_hand() {
        assert_eq!((beta_for(&[10]), beta_for(&[11]), beta_for(&[1_000_000])), (0.9, 0.99, 0.9999));
    }

    #[test]
    fn repeats_match_values_computed_by_hand() {
        let class =
            |images| ClassCounts { name: String::new(), objects: 0, images, positives: 0, objects_without_anchor: 0 };
        let counts = TargetCounts {
            images: 4,
            empty_images: 0,
            objects: 6,
            matched_images: 4,
            positives: 0,
            background: 0,
            ignored: 0,
            objects_without_anchor: 0,
            classes: vec![class(4), class(1)],
            by_image: vec![vec![0, 0], vec![0], vec![0], vec![0, 1]],
        };
        // f = 1 and 1/4; t = 1 repeats the second class's image twice.
        let repeats = Repeats::new(&counts, 1.0);
        close(&repeats.factors, &[1.0, 2.0]);
        close(&repeats.objects, &[6.0, 2.0]);
        assert_eq!(imbalance([6.0, 0.0, 2.0].into_iter()), 3.0);
    }
}
