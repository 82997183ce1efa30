//! Statistics of the values of a tensor.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Statistics of a set of values. Minimum, maximum and mean are those of the finite values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueStats {
    /// Number of values.
    pub count: u64,
    /// Number of values that are NaN.
    pub nan: u64,
    /// Number of values that are infinite.
    pub infinite: u64,
    /// Fraction of the values that are NaN or infinite, from 0 to 1; 0 without values.
    pub non_finite_share: f64,
    /// Smallest finite value; `None` without finite values.
    pub min: Option<f32>,
    /// Largest finite value; `None` without finite values.
    pub max: Option<f32>,
    /// Mean of the finite values; `None` without finite values.
    pub mean: Option<f64>,
}

impl ValueStats {
    /// The statistics of `values`.
    pub fn of(values: &[f32]) -> Self {
        let (mut nan, mut infinite, mut sum) = (0u64, 0u64, 0f64);
        let (mut min, mut max) = (f32::INFINITY, f32::NEG_INFINITY);
        for value in values {
            if value.is_finite() {
                sum += f64::from(*value);
                min = min.min(*value);
                max = max.max(*value);
            } else if value.is_nan() {
                nan += 1;
            } else {
                infinite += 1;
            }
        }
        let count = values.len() as u64;
        let finite = count - nan - infinite;
        let where_finite = (finite > 0).then_some(());
        Self {
            count,
            nan,
            infinite,
            non_finite_share: share(nan + infinite, count),
            min: where_finite.map(|()| min),
            max: where_finite.map(|()| max),
            mean: where_finite.map(|()| sum / finite as f64),
        }
    }

    /// The statistics of the values of a tensor. Waits for the device, because all values are read.
    pub fn of_tensor<const D: usize>(tensor: &Tensor<D>) -> Self {
        let data = tensor.clone().without_autodiff().into_data().convert::<f32>();
        Self::of(data.as_slice::<f32>().expect("a float tensor is readable as f32"))
    }

    /// Number of values that are NaN or infinite.
    pub fn non_finite(&self) -> u64 {
        self.nan + self.infinite
    }

    /// Largest magnitude of the finite values; 0 without finite values.
    pub fn largest(&self) -> f32 {
        [self.min, self.max].into_iter().flatten().fold(0.0, |largest, value| largest.max(value.abs()))
    }

    /// The statistics of the values of both sets together.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let finite = |stats: &Self| (stats.count - stats.non_finite()) as f64;
        let sum = [&self, &other].map(|stats| stats.mean.unwrap_or(0.0) * finite(stats)).iter().sum::<f64>();
        let all = finite(&self) + finite(&other);
        let either = |a: Option<f32>, b: Option<f32>, of: fn(f32, f32) -> f32| a.into_iter().chain(b).reduce(of);
        let (nan, infinite) = (self.nan + other.nan, self.infinite + other.infinite);
        let count = self.count + other.count;
        Self {
            count,
            nan,
            infinite,
            non_finite_share: share(nan + infinite, count),
            min: either(self.min, other.min, f32::min),
            max: either(self.max, other.max, f32::max),
            mean: (all > 0.0).then(|| sum / all),
        }
    }
}

/// The feature maps of several pyramid levels, of which statistics can be computed.
pub trait LevelStats {
    /// The statistics of the values of all levels together. Waits for the device, because all values are read.
    fn stats(&self) -> ValueStats;
}

impl LevelStats for Vec<Tensor<4>> {
    fn stats(&self) -> ValueStats {
        self.iter().map(ValueStats::of_tensor).reduce(ValueStats::merged).unwrap_or_default()
    }
}

fn share(part: u64, count: u64) -> f64 {
    part as f64 / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_finite_are_counted_and_have_no_part_in_the_rest() {
        let stats = ValueStats::of(&[1.0, f32::NAN, -3.0, f32::INFINITY, f32::NEG_INFINITY, 5.0]);
        assert_eq!((stats.count, stats.nan, stats.infinite, stats.non_finite_share), (6, 1, 2, 0.5));
        assert_eq!((stats.min, stats.max, stats.mean, stats.largest()), (Some(-3.0), Some(5.0), Some(1.0), 5.0));
        let none = ValueStats::of(&[f32::NAN]);
        assert_eq!((none.min, none.max, none.mean, none.largest()), (None, None, None, 0.0));
    }

    #[test]
    fn parts_merge_to_the_statistics_of_the_whole() {
        let values = [1.0, 2.0, f32::NAN, 7.0, f32::INFINITY, -2.0];
        for split in 0..=values.len() {
            let (a, b) = values.split_at(split);
            assert_eq!(ValueStats::of(a).merged(ValueStats::of(b)), ValueStats::of(&values), "{split}");
        }
    }
}
