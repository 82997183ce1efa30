//! The analysis as text for a terminal.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use super::{Analysis, ClassColumn, ClassRow, Interval, LabelError, LabelErrorKind, MetricName, sort_classes};
use crate::table::shorten;

/// Number of the most frequent confusions that are shown.
const CONFUSIONS: usize = 5;
/// Number of likely label errors of each kind that are shown.
const LABEL_ERRORS: usize = 10;

/// Lines of cells in aligned columns, each after one space: the first `left` columns to the left, the others to the
/// right. Every row must have as many cells as the first.
pub fn columns(rows: &[Vec<String>], left: usize) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let space = " ".repeat(widths[column] - cell.width());
            let gap = if column == 0 { " " } else { "  " };
            line += gap;
            line += &if column < left { format!("{cell}{space}") } else { format!("{space}{cell}") };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// A metric with three digits; `-` if it is undefined.
fn metric(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

fn texts<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

impl Analysis {
    /// The table of classes, sorted by a column, and tables of sizes, objects in an image, kinds of errors, calibration
    /// and the most frequent confusions. Each table begins with an empty line.
    pub fn table(&self, sort: ClassColumn) -> String {
        let mut rows = self.classes.clone();
        sort_classes(&mut rows, sort);
        let tables = [class_table(&rows), self.groups(), self.errors(), self.confusions()];
        tables.iter().filter(|table| !table.is_empty()).flat_map(|table| ["\n", table]).collect()
    }

    fn groups(&self) -> String {
        let mut rows = vec![texts(["objects by size, sides in pixels", "objects", "AP", "AP50", "AR"])];
        rows.extend(self.sizes.iter().map(|row| {
            let name = row.band.label.replace('-', " to ").replace('+', " and more");
            vec![name, row.objects.to_string(), metric(row.ap), metric(row.ap50), metric(row.ar)]
        }));
        rows.push(texts(["objects in an image", "images", "AP", "AP50", "AR"]));
        rows.extend(self.objects_per_image.iter().filter(|row| row.images > 0).map(|row| {
            let name = match row.max_objects {
                Some(high) if high == row.min_objects => high.to_string(),
                Some(high) => format!("{} to {high}", row.min_objects),
                None => format!("{} and more", row.min_objects),
            };
            vec![name, row.images.to_string(), metric(row.ap), metric(row.ap50), metric(row.ar)]
        }));
        columns(&rows, 1)
    }

    fn errors(&self) -> String {
        let mut rows = vec![texts(["kind of error (TIDE)", "count", "AP50 lost", "share"])];
        rows.extend(self.tide.errors().map(|(name, error)| {
            let share = format!("{:.0} %", 100.0 * error.share);
            vec![name.to_owned(), error.count.to_string(), format!("{:.3}", error.delta_ap), share]
        }));
        let mut out = columns(&rows, 1);
        if let Some(calibration) = &self.calibration {
            let _ = writeln!(
                out,
                " calibration: scores differ from the share of correct detections by {:.3} on average (ECE)",
                calibration.ece
            );
        }
        out
    }

    fn confusions(&self) -> String {
        let name = |id: i64| {
            let row = self.classes.iter().find(|row| row.id == id);
            row.map_or_else(|| id.to_string(), |row| shorten(&row.name))
        };
        let mut cells: Vec<_> = self
            .confusion
            .cells
            .iter()
            .filter_map(|cell| Some((cell.truth?, cell.detected?, cell.count)))
            .filter(|(truth, detected, _)| truth != detected)
            .collect();
        cells.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
        if cells.is_empty() {
            return String::new();
        }
        let mut rows = vec![texts(["most confused: object", "detected as", "times"])];
        rows.extend(
            cells
                .iter()
                .take(CONFUSIONS)
                .map(|&(truth, detected, count)| vec![name(truth), name(detected), count.to_string()]),
        );
        columns(&rows, 2)
    }

    /// A table of the likely label errors, at most ten of each kind, with an empty line before it.
    pub fn label_error_table(&self) -> String {
        let name = |id: Option<i64>| {
            let row = id.and_then(|id| self.classes.iter().find(|row| row.id == id));
            row.map_or_else(|| "-".to_owned(), |row| shorten(&row.name))
        };
        let mut rows = vec![texts(["likely label error", "file", "annotation", "labelled", "detected", "score"])];
        for (kind, text) in [
            (LabelErrorKind::NoObject, "no object"),
            (LabelErrorKind::OtherClass, "other class"),
            (LabelErrorKind::NeverFound, "never found"),
        ] {
            let of_kind = |error: &&LabelError| error.kind == kind;
            let all = self.label_errors.iter().filter(of_kind).count();
            for error in self.label_errors.iter().filter(of_kind).take(LABEL_ERRORS) {
                rows.push(vec![
                    text.to_owned(),
                    shorten(&error.file_name),
                    error.annotation_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
                    name(error.category_id),
                    name(error.detected_category_id),
                    metric(error.score),
                ]);
            }
            if all > LABEL_ERRORS {
                let more = format!("… {} more", all - LABEL_ERRORS);
                rows.push(vec![text.to_owned(), more, String::new(), String::new(), String::new(), String::new()]);
            }
        }
        format!("\n{}", columns(&rows, 5))
    }
}

fn class_table(rows: &[ClassRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let headings = ["class", "id", "objects", "AP", "AP50", "AP75", "AR", "F1", "score", "precision", "recall"];
    let mut lines = vec![texts(headings)];
    lines.extend(rows.iter().map(|row| {
        let best = row.best_f1;
        vec![
            shorten(&row.name),
            row.id.to_string(),
            row.objects.to_string(),
            metric(row.ap),
            metric(row.ap50),
            metric(row.ap75),
            metric(row.ar),
            metric(best.map(|point| point.f1)),
            metric(best.map(|point| point.threshold)),
            metric(best.map(|point| point.precision)),
            metric(best.map(|point| point.recall)),
        ]
    }));
    columns(&lines, 1)
}

/// A table of the metrics of all categories with their intervals, with an empty line before it. `title` heads the first
/// column.
pub fn interval_table(title: &str, names: &[MetricName], intervals: &[Interval]) -> String {
    let mut rows = vec![texts([title, "value", "from", "to"])];
    for (name, interval) in names.iter().zip(intervals).filter(|(name, _)| name.category.is_none()) {
        rows.push(vec![name.key.clone(), metric(interval.value), metric(interval.low), metric(interval.high)]);
    }
    format!("\n{}", columns(&rows, 1))
}
