//! The charts of a lab: AP, AP of the rarest classes, and the positives' share of the class loss over the steps.

use std::path::Path;

use anyhow::Result;

use super::report::{ArmResult, Report};
use super::runs::Record;
use super::statistics::Estimate;
use crate::chart::{self, Axis, Chart, Curve, Interval, Intervals, Lines};

/// Width of each chart in nominal pixels.
const WIDTH: u32 = 420;
/// Height of a row of a chart of intervals in nominal pixels.
const ROW: u32 = 52;
/// Height of title, axis and margins of a chart in nominal pixels.
const FRAME: u32 = 110;
/// Lowest height of a chart in nominal pixels, for the chart of curves.
const LEAST: u32 = 340;

/// Draws the three charts side by side into an `.svg` or `.png` file.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(report: &Report, path: &Path) -> Result<()> {
    let intervals = |title: &str, of: fn(&ArmResult) -> Option<Estimate>, dots: bool| {
        let estimates: Vec<Option<Estimate>> = report.arms.iter().map(of).collect();
        let top = estimates.iter().flatten().map(|e| e.high).fold(0.05, f64::max);
        let rows = report.set.arms.iter().zip(&report.arms).zip(estimates).map(|((arm, result), estimate)| {
            let diverged = report.diverged(result);
            Interval {
                name: arm.title.clone(),
                range: estimate.map(|e| [e.low, e.mean, e.high]),
                dots: if dots { result.records.iter().filter_map(ap).collect() } else { Vec::new() },
                note: if diverged.is_empty() { diverged } else { format!("diverged, {diverged}") },
            }
        });
        Chart::Intervals(Intervals { title: title.to_owned(), range: [0.0, top * 1.05], rows: rows.collect() })
    };
    let curves: Vec<Curve> = report
        .set
        .arms
        .iter()
        .zip(&report.arms)
        .map(|(arm, result)| Curve { name: arm.title.clone(), points: result.share.curve.clone() })
        .collect();
    let end = curves.iter().flat_map(|c| &c.points).map(|p| p.0).fold(1.0, f64::max);
    let share = Chart::Lines(Lines {
        title: "Positives' share of the class loss".to_owned(),
        x: Axis { label: "step".to_owned(), range: [0.0, end] },
        y: Axis { label: "share".to_owned(), range: [0.0, 1.0] },
        curves,
    });
    let charts = [
        intervals("AP (circles: single seeds)", |arm| arm.metrics.ap, true),
        intervals("AP of the rarest classes", |arm| arm.metrics.ap_rare, false),
        share,
    ];
    chart::write(path, &charts, WIDTH, (FRAME + ROW * report.arms.len() as u32).max(LEAST))
}

/// The AP of one seed; `None` if training diverged or COCO leaves the AP undefined.
fn ap(record: &Record) -> Option<f64> {
    match record {
        Record::Finished { metrics, .. } => metrics["AP"].as_f64().filter(|ap| *ap >= 0.0),
        Record::Diverged { .. } => None,
    }
}
