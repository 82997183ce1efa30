//! The time that transforms take.

use std::fmt;

use serde::Serialize;

use crate::AugmentConfig;

/// The time of one application of a transform to an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransformTime {
    /// Position of the transform in `data.augment.transforms`, from 0.
    pub position: usize,
    /// Time in seconds. For a transform that combines several images, it contains the time to load the others.
    pub seconds: f64,
}

/// What a transform of `data.augment.transforms` costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransformCost {
    /// The kind of the transform, as in the configuration.
    pub kind: &'static str,
    /// Number of images that the transform was applied to.
    pub applied: usize,
    /// Median time of an application in milliseconds; `None` if there was none.
    pub median_ms: Option<f64>,
    /// Mean time of an application in milliseconds; `None` if there was none.
    pub mean_ms: Option<f64>,
}

/// What each transform of `data.augment.transforms` costs, in the order of the list. Displayed as a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct TransformCosts(pub Vec<TransformCost>);

/// Collects the times of the transforms of a configuration.
#[derive(Clone, Debug)]
pub struct TransformTimes {
    kinds: Vec<&'static str>,
    /// Times of each transform in milliseconds.
    milliseconds: Vec<Vec<f64>>,
}

impl TransformTimes {
    /// No times yet.
    pub fn new(augment: &AugmentConfig) -> Self {
        let kinds: Vec<_> = augment.transforms.iter().map(|transform| transform.kind()).collect();
        Self { milliseconds: vec![Vec::new(); kinds.len()], kinds }
    }

    /// Adds the times of a batch.
    ///
    /// # Panics
    /// If a position is not that of a transform of the configuration.
    pub fn extend(&mut self, times: &[TransformTime]) {
        times.iter().for_each(|time| self.milliseconds[time.position].push(time.seconds * 1e3));
    }

    /// Summarises the times.
    pub fn costs(&self) -> TransformCosts {
        let cost = |(kind, times): (&&'static str, &Vec<f64>)| {
            let mut sorted = times.clone();
            sorted.sort_by(f64::total_cmp);
            let n = sorted.len();
            TransformCost {
                kind,
                applied: n,
                median_ms: (n > 0).then(|| (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0),
                mean_ms: (n > 0).then(|| sorted.iter().sum::<f64>() / n as f64),
            }
        };
        TransformCosts(self.kinds.iter().zip(&self.milliseconds).map(cost).collect())
    }
}

impl fmt::Display for TransformCosts {
    /// A table with a line for each transform; nothing if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        writeln!(f, " {:<20}  {:>7}  {:>9}  {:>9}", "transform", "applied", "median ms", "mean ms")?;
        for TransformCost { kind, applied, median_ms, mean_ms } in &self.0 {
            let [median, mean] =
                [median_ms, mean_ms].map(|ms| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}")));
            writeln!(f, " {kind:<20}  {applied:>7}  {median:>9}  {mean:>9}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_medians_and_means() {
        let mut times = TransformTimes {
            kinds: vec!["blur", "hsv", "grey"],
            milliseconds: vec![Vec::new(), Vec::new(), Vec::new()],
        };
        let time = |position: usize, seconds: f64| TransformTime { position, seconds };
        times.extend(&[time(0, 0.008), time(1, 0.5)]);
        times.extend(&[time(0, 0.001), time(0, 0.003), time(1, 0.25)]);
        let costs = times.costs();
        let [blur, hsv, grey] = &costs.0[..] else { panic!("expected three transforms") };
        assert_eq!((blur.applied, blur.median_ms, blur.mean_ms), (3, Some(3.0), Some(4.0)));
        assert_eq!((hsv.applied, hsv.median_ms), (2, Some(375.0)));
        assert_eq!((grey.applied, grey.median_ms, grey.mean_ms), (0, None, None));
        let table = costs.to_string();
        assert!(table.lines().count() == 4 && table.contains("blur") && table.contains("3.00"), "{table}");
    }
}
