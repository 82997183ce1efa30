//! Means of metrics over seeds, with intervals from a bootstrap over images and seeds.

use foveal_data::Stream;
use foveal_eval::{Matched, Resampled};
use rayon::prelude::*;
use serde::Serialize;

use crate::resamples;

/// Fraction of the resamples that an interval contains.
pub(super) const CONFIDENCE: f64 = 0.95;
/// Key of the random stream that draws seeds.
const SEEDS: u64 = 32;

/// A metric or difference of metrics with its percentile interval, which contains [`CONFIDENCE`] of the resamples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Estimate {
    /// Mean over all finished seeds, each on all images.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The metrics of an arm, or the differences of the metrics of two arms, as fractions. `None` if no seed finished or
/// COCO leaves the metric undefined.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Metrics {
    /// AP, the mean over IoU 0.50 to 0.95.
    #[serde(rename = "AP")]
    pub ap: Option<Estimate>,
    /// AP at IoU 0.50.
    #[serde(rename = "AP50")]
    pub ap50: Option<Estimate>,
    /// Mean AP of the rarest classes.
    #[serde(rename = "AP_rare")]
    pub ap_rare: Option<Estimate>,
    /// Average recall with at most 100 detections per image and class.
    #[serde(rename = "AR100")]
    pub ar100: Option<Estimate>,
}

/// The metrics AP, AP50, AP of the rarest classes and AR100 of one run or resample.
#[derive(Clone, Copy, Debug)]
struct Point([Option<f64>; 4]);

impl Point {
    fn of(metrics: &Resampled, rare: &[usize]) -> Self {
        let of_rare: Vec<f64> = rare.iter().filter_map(|&class| metrics.per_category[class]).collect();
        let rare = (!of_rare.is_empty()).then(|| of_rare.iter().sum::<f64>() / of_rare.len() as f64);
        Self([metrics.ap, metrics.ap50, rare, metrics.ar100])
    }

    /// The mean of each metric over several points; `None` for a metric that one of the points lacks.
    fn mean(points: &[Point]) -> Self {
        Self(std::array::from_fn(|i| {
            let values: Option<Vec<f64>> = points.iter().map(|point| point.0[i]).collect();
            values.filter(|v| !v.is_empty()).map(|v| v.iter().sum::<f64>() / v.len() as f64)
        }))
    }

    fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| Some(self.0[i]? - other.0[i]?)))
    }
}

/// The metrics of one arm on the validation set and on every resample of it.
pub(super) struct Resamples {
    /// Means over the finished seeds, on all images.
    whole: Point,
    /// Means over the drawn seeds, on the drawn images of each resample.
    drawn: Vec<Point>,
}

impl Resamples {
    /// Draws `count` resamples of images and seeds. Every arm with the same images and seeds gets the same resamples,
    /// so that two arms can be compared resample by resample. `seeds` contains `None` for a seed that did not finish.
    /// `rare` contains the indices of the rarest categories among all categories in ascending order of their ids.
    pub(super) fn new(seeds: &[Option<Matched>], rare: &[usize], count: usize) -> Self {
        let finished: Vec<&Matched> = seeds.iter().flatten().collect();
        let images = finished.first().map_or(0, |matched| matched.images().len());
        let on = |counts: &[u32], matched: &Matched| Point::of(&matched.metrics(counts), rare);
        let once = vec![1; images];
        let whole: Vec<Point> = finished.iter().map(|matched| on(&once, matched)).collect();
        let of_images = resamples::draw(images);
        let draw = |sample: usize| {
            let counts = of_images(sample);
            let mut random = Stream::new(&[SEEDS, sample as u64]);
            let chosen: Vec<usize> = (0..seeds.len()).map(|_| random.below(seeds.len())).collect();
            let of_seeds: Vec<Option<Point>> = (0..seeds.len())
                .map(|seed| seeds[seed].as_ref().filter(|_| chosen.contains(&seed)).map(|matched| on(&counts, matched)))
                .collect();
            let points: Vec<Point> = chosen.iter().filter_map(|&seed| of_seeds[seed]).collect();
            Point::mean(&points)
        };
        Self { whole: Point::mean(&whole), drawn: (0..count).into_par_iter().map(draw).collect() }
    }

    /// The means of the metrics with their intervals.
    pub(super) fn metrics(&self) -> Metrics {
        let estimate = |i: usize| estimate(self.whole.0[i], self.drawn.iter().filter_map(|point| point.0[i]));
        Metrics { ap: estimate(0), ap50: estimate(1), ap_rare: estimate(2), ar100: estimate(3) }
    }

    /// The metrics of this arm minus those of another arm, with intervals of the differences on the same resamples.
    pub(super) fn minus(&self, other: &Self) -> Metrics {
        let drawn = self.drawn.iter().zip(&other.drawn).map(|(a, b)| a.minus(*b)).collect();
        Self { whole: self.whole.minus(other.whole), drawn }.metrics()
    }
}

fn estimate(mean: Option<f64>, drawn: impl Iterator<Item = f64>) -> Option<Estimate> {
    let mut drawn: Vec<f64> = drawn.collect();
    drawn.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let (low, high) = (quantile(&drawn, tail)?, quantile(&drawn, 1.0 - tail)?);
    Some(Estimate { mean: mean?, low, high })
}

/// A quantile of sorted values, with linear interpolation as in numpy's default; `None` for an empty list.
fn quantile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let at = fraction * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_coco::{Annotation, Category, CocoDataset, CocoDetection, Image};

    /// `images` images with one object each; the objects of the first `found` images are detected.
    fn matched(images: i64, found: i64) -> Matched {
        let bbox = [0.0, 0.0, 10.0, 10.0];
        let truth = CocoDataset {
            images: (1..=images).map(|id| Image { id, ..Image::default() }).collect(),
            annotations: (1..=images)
                .map(|id| Annotation { id, image_id: id, category_id: 1, bbox, area: 100.0, iscrowd: false })
                .collect(),
            categories: vec![Category { id: 1, name: "a".to_owned(), supercategory: None }],
        };
        let detections: Vec<CocoDetection> =
            (1..=found).map(|image_id| CocoDetection { image_id, category_id: 1, bbox, score: 0.9 }).collect();
        Matched::new(&truth, &detections).unwrap()
    }

    #[test]
    fn recall_has_the_interval_of_a_binomial_mean() {
        let seeds = [Some(matched(100, 40))];
        let metrics = Resamples::new(&seeds, &[0], 2000).metrics();
        let recall = metrics.ar100.unwrap();
        assert!((recall.mean - 0.4).abs() < 1e-12);
        // The standard deviation of a mean of 100 draws with p = 0.4 is 0.049, and 1.96 times that is 0.096.
        assert!((recall.low - 0.304).abs() < 0.025 && (recall.high - 0.496).abs() < 0.025, "{recall:?}");
        assert_eq!(metrics.ap, metrics.ap_rare);
    }

    #[test]
    fn differences_are_paired() {
        // Arm b finds one object more, so the difference depends only on how often that image is drawn.
        let (a, b) = ([Some(matched(100, 40))], [Some(matched(100, 41))]);
        let [a, b] = [&a, &b].map(|seeds| Resamples::new(seeds, &[], 1000));
        let recall = b.minus(&a).ar100.unwrap();
        assert!((recall.mean - 0.01).abs() < 1e-12);
        assert!(recall.low >= 0.0 && recall.high <= 0.05, "{recall:?}");
        assert_eq!(b.metrics().ap_rare, None);
    }

    #[test]
    fn seeds_widen_the_interval_and_missing_ones_are_left_out() {
        let one = Resamples::new(&[Some(matched(100, 40))], &[], 1000).metrics().ar100.unwrap();
        let two = [Some(matched(100, 20)), Some(matched(100, 60))];
        let two = Resamples::new(&two, &[], 1000).metrics().ar100.unwrap();
        assert!((one.mean - two.mean).abs() < 1e-12);
        assert!(two.high - two.low > 1.5 * (one.high - one.low), "{one:?} {two:?}");
        let half = Resamples::new(&[Some(matched(100, 40)), None], &[], 1000).metrics().ar100.unwrap();
        assert!((half.mean - 0.4).abs() < 1e-12);
        assert_eq!(Resamples::new(&[None], &[], 200).metrics(), Metrics::default());
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[1.0, 2.0], 1.0), Some(2.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
