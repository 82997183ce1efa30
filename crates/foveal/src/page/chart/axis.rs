//! The range and the ticks of an axis.

use super::number;

/// An axis of a chart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Axis {
    /// What the axis measures, with its unit.
    pub label: String,
    /// The smallest range that is shown.
    pub range: Option<[f64; 2]>,
}

impl Axis {
    /// An axis whose range is that of the values.
    pub(crate) fn new(label: impl ToString) -> Self {
        Self { label: label.to_string(), range: None }
    }

    /// An axis that shows at least a range.
    pub(crate) fn over(label: impl ToString, range: [f64; 2]) -> Self {
        Self { label: label.to_string(), range: Some(range) }
    }

    /// The scale of the axis for some values, of which those that are not finite do not count.
    pub(super) fn scale(&self, values: impl IntoIterator<Item = f64>) -> Scale {
        let all = values.into_iter().filter(|value| value.is_finite()).chain(self.range.into_iter().flatten());
        let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        Scale::new(low, high)
    }
}

/// A linear scale from a range of values to 0 to 1, with round ticks.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

/// Number of intervals between ticks that a scale aims at.
const INTERVALS: f64 = 5.0;

impl Scale {
    fn new(low: f64, high: f64) -> Self {
        let (low, high) = match (low.is_finite(), high > low) {
            (false, _) => (0.0, 1.0),
            (true, true) => (low, high),
            (true, false) => (low - 0.5 * low.abs().max(1.0), low + 0.5 * low.abs().max(1.0)),
        };
        let rough = (high - low) / INTERVALS;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= rough * 0.999);
        Self { low, high, step: step.unwrap_or(10.0 * power) }
    }

    /// Where a value is, from 0 at the low end to 1 at the high end.
    pub(super) fn at(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The ticks with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let first = (self.low / self.step - 1e-9).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * self.step).map(|value| (value, number(rounded(value, self.step)))).collect()
    }
}

/// A multiple of `step` without the error of the multiplication: 0.3 and not 0.30000000000000004.
fn rounded(value: f64, step: f64) -> f64 {
    if value.abs() < step / 2.0 { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> Vec<String> {
        Scale::new(low, high).ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers_in_the_range() {
        assert_eq!(labels(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(labels(1.0, 1200.0), ["250", "500", "750", "1000"]);
        assert_eq!(labels(-0.3, 0.3), ["-0.2", "0", "0.2"]);
        assert!(labels(5.0, 5.0).contains(&"5".to_owned()));
    }

    #[test]
    fn a_scale_of_nothing_is_from_0_to_1() {
        let scale = Axis::new("x").scale([f64::NAN]);
        assert_eq!((scale.at(0.0), scale.at(1.0)), (0.0, 1.0));
        let scale = Axis::over("x", [0.0, 2.0]).scale([1.0]);
        assert_eq!(scale.at(1.0), 0.5);
    }
}
