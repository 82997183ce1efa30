//! The table after an evaluation, with the changes since the last one and the best values.

use std::path::Path;

use foveal_train::EvaluationReport;

/// A row of the table: the name of a metric, its column in `metrics.csv`, and whether lower is better.
struct Row {
    name: &'static str,
    column: &'static str,
    lower: bool,
}

/// The rows of the table.
const ROWS: [Row; 7] = [
    Row { name: "AP", column: "AP", lower: false },
    Row { name: "AP50", column: "AP50", lower: false },
    Row { name: "AP75", column: "AP75", lower: false },
    Row { name: "AR100", column: "AR100", lower: false },
    Row { name: "loss", column: "loss", lower: true },
    Row { name: "class loss", column: "class_loss", lower: true },
    Row { name: "box loss", column: "box_loss", lower: true },
];

/// A value with the epoch of its evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    epoch: usize,
    value: f64,
}

/// The earlier values of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct History {
    last: Option<Point>,
    best: Option<Point>,
}

/// The earlier evaluations of a run.
#[derive(Debug, Default)]
pub(super) struct Evaluations {
    rows: [History; ROWS.len()],
}

impl Evaluations {
    /// The evaluations in the `metrics.csv` at `path`; none where it cannot be read.
    pub(super) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut all = Self::default();
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
        for line in lines {
            let cells: Vec<&str> = line.split(',').collect();
            let Some(epoch) = cells.first().and_then(|cell| cell.parse().ok()) else { continue };
            let value = |row: &Row| {
                let place = header.iter().position(|column| *column == row.column)?;
                cells.get(place)?.parse().ok()
            };
            let values: [Option<f64>; ROWS.len()] = std::array::from_fn(|index| value(&ROWS[index]));
            all.add(epoch, values);
        }
        all
    }

    /// The lines of the table about an evaluation, which then is one of the earlier ones.
    pub(super) fn table(&mut self, report: &EvaluationReport<'_>) -> Vec<String> {
        let (metrics, losses) = (report.metrics, report.losses);
        let metric = |value: f64| (value >= 0.0).then_some(value);
        let values = [
            metric(metrics.ap),
            metric(metrics.ap50),
            metric(metrics.ap75),
            metric(metrics.ar100),
            Some(losses.total),
            Some(losses.class),
            Some(losses.boxes),
        ];
        let before = self.rows;
        self.add(report.epoch, values);
        let mut lines = vec![format!("  {:<10}  {:>8}  {:>8}  {:>8}", "", "now", "change", "best")];
        for (((row, value), before), now) in ROWS.iter().zip(values).zip(before).zip(&self.rows) {
            let Some(value) = value else { continue };
            let change = before.last.map_or(String::new(), |last| format!("{:+.4}", value - last.value));
            let best = now.best.map_or(String::new(), |best| format!("{:>8.4}  (epoch {})", best.value, best.epoch));
            lines.push(format!("  {:<10}  {value:>8.4}  {change:>8}  {best}", row.name));
        }
        lines
    }

    /// Adds the values of an evaluation; those that are undefined change nothing.
    fn add(&mut self, epoch: usize, values: [Option<f64>; ROWS.len()]) {
        for ((row, history), value) in ROWS.iter().zip(&mut self.rows).zip(values) {
            let Some(value) = value.filter(|value| value.is_finite() && *value >= 0.0) else { continue };
            let point = Point { epoch, value };
            let better = |best: Point| if row.lower { value < best.value } else { value > best.value };
            history.last = Some(point);
            if history.best.is_none_or(better) {
                history.best = Some(point);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_eval::Metrics;
    use foveal_train::{BestBy, MeanLosses};

    fn table(all: &mut Evaluations, epoch: usize, ap: f64, loss: f64) -> Vec<String> {
        let metrics = Metrics {
            ap,
            ap50: -1.0,
            ap75: -1.0,
            ap_small: -1.0,
            ap_medium: -1.0,
            ap_large: -1.0,
            ar1: -1.0,
            ar10: -1.0,
            ar100: -1.0,
            ar_small: -1.0,
            ar_medium: -1.0,
            ar_large: -1.0,
            per_category: Vec::new(),
        };
        let losses = MeanLosses { class: loss, boxes: 0.0, total: loss };
        let report = EvaluationReport {
            epoch,
            metrics: &metrics,
            losses: &losses,
            images: 4,
            left_out: 0,
            best: false,
            best_by: &BestBy::Ap,
            value: Some(ap),
            best_before: None,
            seconds: 1.0,
        };
        all.table(&report)
    }

    #[test]
    fn changes_and_best_values_follow_those_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.csv");
        std::fs::write(&path, "epoch,step,class_loss,box_loss,loss,AP\n1,4,0.5,0.25,0.75,0.5\n2,8,,,,\n").unwrap();
        let mut all = Evaluations::read(&path);
        let lines = table(&mut all, 3, 0.25, 0.5);
        assert_eq!(
            lines,
            [
                "                   now    change      best",
                "  AP            0.2500   -0.2500    0.5000  (epoch 1)",
                "  loss          0.5000   -0.2500    0.5000  (epoch 3)",
                "  class loss    0.5000   +0.0000    0.5000  (epoch 1)",
                "  box loss      0.0000   -0.2500    0.0000  (epoch 3)",
            ]
        );
        // An undefined metric has no row. A file that does not exist has no evaluations.
        assert_eq!(table(&mut all, 4, -1.0, 0.5).len(), 4);
        let lines = table(&mut Evaluations::read(&dir.path().join("none")), 1, 0.5, 1.0);
        assert_eq!(lines[1], "  AP            0.5000              0.5000  (epoch 1)");
    }
}
