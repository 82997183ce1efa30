//! Curves over a common axis.

use std::fmt::Write;

use super::frame::Frame;
use super::{Axis, COLORS, figure, px};
use crate::page::html::{Html, el};
use crate::page::table::{numbers, shown};

/// Largest number of points of a curve; more are averaged in groups.
const MOST_POINTS: usize = 300;
/// Largest number of points that are marked with circles.
const MARKED: usize = 40;
/// Largest number of rows of the table of a chart.
const ROWS: usize = 60;

/// A chart of curves.
#[derive(Clone, Debug)]
pub(crate) struct LineChart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

/// A curve.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub name: String,
    /// Points `[x, y]` by ascending `x`. Points that are not finite interrupt the curve.
    pub points: Vec<[f64; 2]>,
}

impl Series {
    /// A curve through points.
    pub(crate) fn new(name: impl ToString, points: Vec<[f64; 2]>) -> Self {
        Self { name: name.to_string(), points }
    }

    /// The curve with at most [`MOST_POINTS`] points, each the mean of a group of points that follow each other.
    fn thinned(&self) -> Self {
        let group = self.points.len().div_ceil(MOST_POINTS).max(1);
        let mean = |points: &[[f64; 2]]| {
            let finite = || points.iter().filter(|[_, y]| y.is_finite());
            let count = finite().count() as f64;
            let [x, y] = finite().fold([0.0; 2], |[sx, sy], [x, y]| [sx + x, sy + y]);
            [x / count, y / count]
        };
        let points = match group {
            1 => self.points.clone(),
            _ => self.points.chunks(group).map(mean).collect(),
        };
        Self { name: self.name.clone(), points }
    }
}

impl LineChart {
    /// The chart as markup; empty if no curve has a point.
    pub(crate) fn html(&self) -> Html {
        let series: Vec<Series> = self.series.iter().map(Series::thinned).collect();
        let points = || series.iter().flat_map(|series| &series.points).filter(|[x, y]| x.is_finite() && y.is_finite());
        if points().next().is_none() {
            return Html::new();
        }
        let frame = Frame { x: self.x.scale(points().map(|p| p[0])), y: self.y.scale(points().map(|p| p[1])) };
        let mut image = frame.image(&self.description(&series), [&self.x.label, &self.y.label]);
        for (index, series) in series.iter().enumerate() {
            image = image.child(curve(series, index, &frame));
        }
        let names: Vec<String> = series.iter().map(|series| series.name.clone()).collect();
        figure(&self.title, &names, image, self.table(&series))
    }

    /// What a screen reader says: the title and the ends of each curve.
    fn description(&self, series: &[Series]) -> String {
        let mut out = format!("{}: {} over {}.", self.title, self.y.label, self.x.label);
        for series in series {
            let finite: Vec<[f64; 2]> = series.points.iter().copied().filter(|[_, y]| y.is_finite()).collect();
            if let (Some([x, y]), Some([to, last])) = (finite.first(), finite.last()) {
                let (x, y, to, last) = (shown(*x), shown(*y), shown(*to), shown(*last));
                let _ = write!(out, " {}: {y} at {x}, {last} at {to}.", series.name);
            }
        }
        out
    }

    fn table(&self, series: &[Series]) -> Html {
        let columns = vec![self.x.label.clone(), "series".to_owned(), self.y.label.clone()];
        let each = ROWS / series.len().max(1);
        let rows = series.iter().flat_map(|series| {
            let step = series.points.len().div_ceil(each.max(2)).max(1);
            let last = series.points.len().saturating_sub(1);
            let kept = series.points.iter().enumerate().filter(move |(index, _)| index % step == 0 || *index == last);
            kept.map(|(_, [x, y])| vec![shown(*x), series.name.clone(), shown(*y)])
        });
        numbers(columns, rows.collect())
    }
}

fn curve(series: &Series, index: usize, frame: &Frame) -> Html {
    let class = format!("s{}", index % COLORS);
    let mut path = String::new();
    let mut begins = true;
    for [x, y] in &series.points {
        if !(x.is_finite() && y.is_finite()) {
            begins = true;
            continue;
        }
        let _ = write!(path, "{}{} {}", if begins { 'M' } else { 'L' }, px(frame.x(*x)), px(frame.y(*y)));
        begins = false;
    }
    let mut out = Html::from(el("path").class(format!("line {class}")).attr("d", path));
    if series.points.len() <= MARKED {
        for [x, y] in series.points.iter().filter(|[x, y]| x.is_finite() && y.is_finite()) {
            let circle = el("circle").class(format!("dot {class}")).attr("r", 3);
            let circle = circle.attr("cx", px(frame.x(*x))).attr("cy", px(frame.y(*y)));
            out.push(circle.child(el("title").text(format!("{}: {} at {}", series.name, shown(*y), shown(*x)))));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: Vec<Series>) -> LineChart {
        LineChart { title: "Loss".to_owned(), x: Axis::new("step"), y: Axis::new("loss"), series }
    }

    #[test]
    fn curves_are_interrupted_by_values_that_are_not_finite() {
        let series = Series::new("<b>", vec![[0.0, 1.0], [1.0, f64::NAN], [2.0, 0.0], [3.0, 0.5]]);
        let html = chart(vec![series]).html();
        let html = html.as_str();
        // The plot is 392 units wide from 68, and 214 high from 10.
        assert!(html.contains("d=\"M68 10M329.3 224L460 117\""), "{html}");
        assert!(html.contains("&lt;b&gt;") && !html.contains("<b>"), "{html}");
        assert_eq!(html.matches("<circle").count(), 3);
    }

    #[test]
    fn long_curves_are_averaged_in_groups() {
        let points = (0..900).map(|n| [f64::from(n), if n % 3 == 0 { 3.0 } else { 0.0 }]).collect();
        let thinned = Series::new("a", points).thinned();
        assert_eq!(thinned.points.len(), 300);
        assert!(thinned.points.iter().all(|[_, y]| *y == 1.0));
        assert_eq!(thinned.points[1][0], 4.0);
    }

    #[test]
    fn a_chart_without_points_is_left_out() {
        assert!(chart(vec![Series::new("a", vec![])]).html().is_empty());
        assert!(chart(vec![Series::new("a", vec![[1.0, f64::NAN]])]).html().is_empty());
    }
}
