//! Numbers of values in intervals.

use super::axis::Axis;
use super::frame::{Frame, rect};
use super::{COLORS, figure, number};
use crate::page::html::{Html, el};
use crate::page::table::numbers;

/// A histogram of one or more series over the same intervals.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    pub title: String,
    /// What the values measure, with its unit.
    pub measure: String,
    /// What is counted.
    pub counted: String,
    pub series: Vec<String>,
    pub bins: Vec<Bin>,
}

/// An interval of a histogram.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bin {
    /// Lower end.
    pub from: f64,
    /// Upper end, which does not belong to the interval, except in the last one.
    pub to: f64,
    /// The number of values of each series: `[series]`.
    pub counts: Vec<usize>,
}

impl Bin {
    /// Counts the values of each series in `count` intervals of equal width from 0, or from `low` if it is given, to
    /// the largest value. Values that are not finite do not count.
    pub(crate) fn count(low: f64, count: usize, series: &[Vec<f64>]) -> Vec<Self> {
        let values = || series.iter().flatten().copied().filter(|value| value.is_finite());
        let high = values().fold(f64::NEG_INFINITY, f64::max);
        if values().next().is_none() || high <= low || count == 0 {
            return Vec::new();
        }
        let width = (high - low) / count as f64;
        let mut bins: Vec<Self> = (0..count)
            .map(|n| {
                let from = low + n as f64 * width;
                Self { from, to: from + width, counts: vec![0; series.len()] }
            })
            .collect();
        for (index, values) in series.iter().enumerate() {
            for value in values.iter().filter(|value| value.is_finite()) {
                let bin = (((value - low) / width).max(0.0) as usize).min(count - 1);
                bins[bin].counts[index] += 1;
            }
        }
        bins
    }
}

impl Histogram {
    /// The histogram as markup; empty without intervals.
    pub(crate) fn html(&self) -> Html {
        let (Some(first), Some(last)) = (self.bins.first(), self.bins.last()) else { return Html::new() };
        let counts = || self.bins.iter().flat_map(|bin| bin.counts.iter().map(|count| *count as f64));
        let frame =
            Frame { x: Axis::over("", [first.from, last.to]).scale([]), y: Axis::over("", [0.0, 1.0]).scale(counts()) };
        let description = format!("{}: number of {} by {}.", self.title, self.counted, self.measure);
        let mut image = frame.image(&description, [&self.measure, &self.counted]);
        for bin in &self.bins {
            let (left, right) = (frame.x(bin.from), frame.x(bin.to));
            let width = (right - left) / bin.counts.len().max(1) as f64;
            for (index, count) in bin.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let (top, bottom) = (frame.y(*count as f64), frame.y(0.0));
                let bar = rect(left + index as f64 * width, top, (width - 1.0).max(0.5), bottom - top);
                let said = format!("{} to {}: {count}", number(bin.from), number(bin.to));
                image = image.child(bar.class(format!("bar s{}", index % COLORS)).child(el("title").text(said)));
            }
        }
        let columns = [self.measure.clone()].into_iter().chain(self.series.iter().cloned()).collect();
        let row = |bin: &Bin| {
            let range = format!("{} to {}", number(bin.from), number(bin.to));
            [range].into_iter().chain(bin.counts.iter().map(ToString::to_string)).collect()
        };
        figure(&self.title, &self.series, image, numbers(columns, self.bins.iter().map(row).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_once_and_the_largest_is_in_the_last_interval() {
        let bins = Bin::count(0.0, 4, &[vec![0.0, 0.9, 1.0, 4.0, f64::NAN], vec![2.0]]);
        let counts: Vec<[usize; 2]> = bins.iter().map(|bin| [bin.counts[0], bin.counts[1]]).collect();
        assert_eq!(counts, [[2, 0], [1, 0], [0, 1], [1, 0]]);
        assert_eq!((bins[1].from, bins[1].to), (1.0, 2.0));
        assert!(Bin::count(0.0, 4, &[vec![]]).is_empty());
    }

    #[test]
    fn bars_stand_on_the_axis() {
        let bins = Bin::count(0.0, 2, &[vec![0.5, 2.0, 2.0]]);
        let histogram = Histogram {
            title: "Sides".to_owned(),
            measure: "pixels".to_owned(),
            counted: "objects".to_owned(),
            series: vec!["train".to_owned()],
            bins,
        };
        let html = histogram.html();
        let html = html.as_str();
        assert!(html.contains("y=\"10\" width=\"195\" height=\"214\""), "{html}");
        assert!(html.contains("y=\"117\" width=\"195\" height=\"107\""), "{html}");
    }
}
