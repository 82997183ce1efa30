//! Bootstrap intervals of metrics and of the differences between two sets of detections.
//!
//! Images are drawn with replacement, and an image that is drawn several times counts as often (Efron and Tibshirani,
//! "An Introduction to the Bootstrap", 1993, chapter 13: percentile intervals). Both sets of a comparison are evaluated
//! on the same draws, so that what an image contributes to both cancels.

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::resample::{ClassValues, Matched, mean};

/// Fraction of the resamples that an interval contains.
pub const CONFIDENCE: f64 = 0.95;
/// Number of COCO's size bands, which come first in [`Matched::values`] after all sizes.
const COCO_BANDS: usize = 3;

/// A metric, or the difference of a metric, with its interval. `None` (`null`) if it is undefined on all images, or on
/// every resample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The metric on all images, as a fraction.
    pub value: Option<f64>,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

/// The name of a metric: its key in JSON, and the category it belongs to, if it is that of a category.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricName {
    /// Category id; `None` for a metric of all categories.
    pub category: Option<i64>,
    /// Key in JSON, such as `AP50`, or `AP 0-16` for a size band of the user.
    pub key: String,
}

/// The metrics of a data set and of each of its resamples, in the order of [`Resamples::names`].
pub struct Resamples {
    names: Vec<MetricName>,
    whole: Vec<Option<f64>>,
    drawn: Vec<Vec<Option<f64>>>,
}

impl Resamples {
    /// Evaluates `count` resamples. `draw` gives how often each image of [`Matched::images`] counts in the resample
    /// with an index. Two sets of detections of the same images get comparable resamples from the same `draw`. `bands`
    /// are the labels of the size bands with which `matched` was made; the first three must be COCO's.
    pub fn new(matched: &Matched, bands: &[String], count: usize, draw: impl Fn(usize) -> Vec<u32> + Sync) -> Self {
        let of = |counts: &[u32]| flat(&matched.values(counts));
        Self {
            names: names(&matched.categories(), bands),
            whole: of(&vec![1; matched.images().len()]),
            drawn: (0..count).into_par_iter().map(|sample| of(&draw(sample))).collect(),
        }
    }

    /// The names of the metrics: COCO's twelve, those of the user's size bands, then those of each category.
    pub fn names(&self) -> &[MetricName] {
        &self.names
    }

    /// The metrics with their intervals.
    pub fn intervals(&self) -> Vec<Interval> {
        let one = |i: usize| interval(self.whole[i], self.drawn.iter().filter_map(|values| values[i]).collect());
        (0..self.names.len()).into_par_iter().map(one).collect()
    }

    /// The metrics of this set minus those of another set on the same images, with the intervals of the differences.
    pub fn minus(&self, other: &Self) -> Vec<Interval> {
        let one = |i: usize| {
            let drawn = self.drawn.iter().zip(&other.drawn);
            let value = self.whole[i].zip(other.whole[i]).map(|(a, b)| a - b);
            interval(value, drawn.filter_map(|(a, b)| Some(a[i]? - b[i]?)).collect())
        };
        (0..self.names.len()).into_par_iter().map(one).collect()
    }

    /// Intervals as a JSON object: `{"AP": {"value": …, "low": …, "high": …}, …, "per_category": {"<id>": {"AP": …}}}`.
    pub fn to_json(&self, intervals: &[Interval]) -> Value {
        let (mut whole, mut classes) = (Map::new(), Map::new());
        for (name, interval) in self.names.iter().zip(intervals) {
            let value = json!(interval);
            match name.category {
                None => _ = whole.insert(name.key.clone(), value),
                Some(id) => {
                    let class = classes.entry(id.to_string()).or_insert_with(|| json!({}));
                    class[&name.key] = value;
                }
            }
        }
        whole.insert("per_category".to_owned(), Value::Object(classes));
        Value::Object(whole)
    }
}

fn names(categories: &[i64], bands: &[String]) -> Vec<MetricName> {
    let coco = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];
    let whole = coco
        .map(str::to_owned)
        .into_iter()
        .chain(bands.iter().skip(COCO_BANDS).flat_map(|band| [format!("AP {band}"), format!("AR {band}")]));
    let whole = whole.map(|key| MetricName { category: None, key });
    let class =
        |&id: &i64| ["AP", "AP50", "AP75", "AR"].map(|key| MetricName { category: Some(id), key: key.to_owned() });
    whole.chain(categories.iter().flat_map(class)).collect()
}

/// The metrics in the order of [`names`].
fn flat(values: &[Vec<Option<ClassValues>>]) -> Vec<Option<f64>> {
    let all = &values[0];
    let ap = |size: usize| mean(&values[size], |c| c.ap);
    let ar = |size: usize| mean(&values[size], |c| c.ar[2]);
    let mut out = vec![ap(0), mean(all, |c| c.ap50), mean(all, |c| c.ap75)];
    out.extend((1..=COCO_BANDS).map(ap));
    out.extend((0..3).map(|limit| mean(all, |c| c.ar[limit])));
    out.extend((1..=COCO_BANDS).map(ar));
    out.extend((COCO_BANDS + 1..values.len()).flat_map(|size| [ap(size), ar(size)]));
    for class in all {
        out.extend([class.map(|c| c.ap), class.map(|c| c.ap50), class.map(|c| c.ap75), class.map(|c| c.ar[2])]);
    }
    out
}

fn interval(value: Option<f64>, mut drawn: Vec<f64>) -> Interval {
    drawn.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let ends = value.and_then(|_| quantile(&drawn, tail).zip(quantile(&drawn, 1.0 - tail)));
    Interval { value, low: ends.map(|ends| ends.0), high: ends.map(|ends| ends.1) }
}

/// A quantile of sorted values, with linear interpolation as in numpy's default; `None` for an empty list.
fn quantile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let at = fraction * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}
