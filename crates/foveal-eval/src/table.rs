//! The metrics as a table of text.

use std::fmt::Write;

use foveal_base::printable;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::Metrics;

/// Largest width of a class name in terminal columns; longer names are shortened.
const MAX_NAME_WIDTH: usize = 40;
/// Text in place of the metrics of a ground truth without objects.
const UNDEFINED: &str = "undefined (no objects)";
/// Heading of the column of class names.
const CLASS: &str = "class";

impl Metrics {
    /// The twelve lines that COCO's tools print. Without any object, they say that the metrics are undefined; -1.000
    /// stands for a metric of a size that no object has. The text ends with a line break.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        for f in self.lines() {
            let title = if f.recall { "Average Recall     (AR)" } else { "Average Precision  (AP)" };
            let _ = writeln!(
                out,
                " {title} @[ IoU={:<9} | area={:>6} | maxDets={:>3} ] = {}",
                f.iou,
                f.area,
                f.max_detections,
                if self.is_defined() { format!("{:.3}", f.value) } else { UNDEFINED.to_owned() }
            );
        }
        out
    }

    /// The metrics as a table of text: the lines of [`Metrics::summary`], then one line per category with its name, id,
    /// number of objects, AP and AP50. A category without objects has `-` in place of AP and AP50. Without any object,
    /// the twelve lines say that the metrics are undefined; -1.000 stands for a metric of a size that no object has.
    /// The text ends with a line break.
    pub fn table(&self) -> String {
        let mut out = self.summary();
        if self.per_category.is_empty() {
            return out;
        }
        let names: Vec<String> = self.per_category.iter().map(|c| shorten(&c.name)).collect();
        let column = |heading: &str, values: &mut dyn Iterator<Item = String>| {
            values.map(|v| v.len()).max().unwrap_or(0).max(heading.len())
        };
        let name_width = names.iter().map(|n| n.width()).max().unwrap_or(0).max(CLASS.len());
        let id_width = column("id", &mut self.per_category.iter().map(|c| c.id.to_string()));
        let objects_width = column("objects", &mut self.per_category.iter().map(|c| c.objects.to_string()));
        let mut line = |name: &str, id: &str, objects: &str, ap: &str, ap50: &str| {
            let padding = " ".repeat(name_width - name.width());
            let _ = writeln!(out, " {name}{padding}  {id:>id_width$}  {objects:>objects_width$}  {ap:>5}  {ap50:>5}");
        };
        line("", "", "", "", "");
        line(CLASS, "id", "objects", "AP", "AP50");
        for (c, name) in self.per_category.iter().zip(&names) {
            line(name, &c.id.to_string(), &c.objects.to_string(), &metric(c.ap), &metric(c.ap50));
        }
        out.lines().flat_map(|l| [l.trim_end(), "\n"]).collect()
    }
}

fn metric(value: f64) -> String {
    if value < 0.0 { "-".to_owned() } else { format!("{value:.3}") }
}

/// The name in printable characters on one line, shortened to [`MAX_NAME_WIDTH`] columns.
pub(crate) fn shorten(name: &str) -> String {
    let clean = printable(name).into_owned();
    if clean.width() <= MAX_NAME_WIDTH {
        return clean;
    }
    let mut width = 1; // the ellipsis
    let kept = clean.chars().take_while(|c| {
        width += c.width().unwrap_or(0);
        width <= MAX_NAME_WIDTH
    });
    kept.chain(['…']).collect()
}
