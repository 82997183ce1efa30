//! The result of a lab: as a table for people, as Markdown, as JSON.

use serde_json::{Value, json};

use super::arms::ArmSet;
use super::runs::{LossParts, Record};
use super::statistics::{CONFIDENCE, Estimate, Figures};
use crate::output::significant;

/// Points of the curve of the positives' share.
const POINTS: u64 = 60;
/// The last steps whose share is told: this fraction of all.
const LAST: f64 = 0.1;

/// A class among the rarest.
pub struct RareClass {
    pub name: String,
    /// Objects in the training set.
    pub objects: usize,
}

/// One arm with all its seeds.
pub struct ArmResult {
    /// One a seed, in the seeds' order.
    pub records: Vec<Record>,
    pub figures: Figures,
    /// These figures minus the reference's.
    pub difference: Figures,
    pub share: Share,
}

/// The positives' share of the class loss over time, all seeds together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Share {
    /// Of the first step.
    pub first: f64,
    /// Of the last tenth of the steps.
    pub last: f64,
    /// Middle of a range of steps, and the share over it.
    pub curve: Vec<(f64, f64)>,
}

impl Share {
    /// Shares are of sums: a step with a large loss counts for more.
    pub fn of(parts: &[LossParts]) -> Self {
        let Some(end) = parts.iter().map(|part| part.step).max() else { return Self::default() };
        let start = parts.iter().map(|part| part.step).min().unwrap_or(end);
        let share = |within: &dyn Fn(u64) -> bool| {
            let sums = parts
                .iter()
                .filter(|part| within(part.step))
                .fold([0.0; 2], |sums, part| [sums[0] + part.positive, sums[1] + part.positive + part.negative]);
            (sums[1] > 0.0).then(|| sums[0] / sums[1])
        };
        let width = end.div_ceil(POINTS).max(1);
        let curve = (0..POINTS).filter_map(|point| {
            let (low, high) = (point * width, (point + 1) * width);
            let middle = (low + high) as f64 / 2.0;
            Some((middle, share(&|step| low < step && step <= high)?))
        });
        let late = (end as f64 * (1.0 - LAST)) as u64;
        Self {
            first: share(&|step| step == start).unwrap_or(0.0),
            last: share(&|step| step > late).unwrap_or(0.0),
            curve: curve.collect(),
        }
    }
}

/// All of a lab.
pub struct Report {
    pub config: String,
    pub set: ArmSet,
    pub seeds: Vec<u64>,
    pub images: usize,
    pub resamples: usize,
    pub rarest: Vec<RareClass>,
    /// One an arm, in the set's order.
    pub arms: Vec<ArmResult>,
}

impl Report {
    /// The table for a terminal.
    pub fn text(&self) -> String {
        let rows = self.rows();
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = format!(" {}\n {}\n\n", self.title(), self.conditions());
        for row in &rows {
            for (cell, width) in row.iter().zip(&widths) {
                out += &format!(" {cell}{}  ", " ".repeat(width - cell.chars().count()));
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out
    }

    /// The same in Markdown, with the figure beside it.
    pub fn markdown(&self, figure: &str) -> String {
        let rows = self.rows();
        let cell = |text: &String| text.replace('|', "\\|");
        let line = |row: &[String]| format!("| {} |\n", row.iter().map(cell).collect::<Vec<_>>().join(" | "));
        let mut out = format!("# {}\n\n{}\n\n", self.title(), self.conditions());
        out += &line(&rows[0]);
        out += &format!("|{}\n", "---|".repeat(rows[0].len()));
        rows[1..].iter().for_each(|row| out += &line(row));
        out + &format!("\n![The same as a figure, and the positives' share of the loss over time]({figure})\n")
    }

    fn title(&self) -> String {
        format!("{}, arms {}: {}", self.config, self.set.name, self.set.about)
    }

    fn conditions(&self) -> String {
        let rarest: Vec<String> = self.rarest.iter().map(|c| format!("{} ({})", c.name, c.objects)).collect();
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        format!(
            "Seeds {}; last weights on {} validation images; in brackets {:.0} % intervals of {} resamples of images \
             and seeds. Rarest classes (training objects): {}.",
            seeds.join(", "),
            self.images,
            100.0 * CONFIDENCE,
            self.resamples,
            rarest.join(", ")
        )
    }

    /// The heading, then a row an arm.
    fn rows(&self) -> Vec<Vec<String>> {
        let mut heading: Vec<String> =
            ["arm", "AP", "AP50", "AP rarest", "AR100"].into_iter().map(str::to_owned).collect();
        heading.push(format!("AP minus {}", self.set.reference));
        heading.push("positives' share, first step".to_owned());
        heading.push("last tenth".to_owned());
        let mut rows = vec![heading];
        for (arm, result) in self.set.arms.iter().zip(&self.arms) {
            let mut name = arm.title.clone();
            let diverged = self.diverged(result);
            if !diverged.is_empty() {
                name = format!("{name}; diverged: {diverged}");
            }
            let Figures { ap, ap50, ap_rare, ar100 } = &result.figures;
            let mut row = vec![name];
            row.extend([ap, ap50, ap_rare, ar100].map(|figure| bracketed(figure, false)));
            let is_reference = arm.name == self.set.reference;
            row.push(if is_reference { "-".to_owned() } else { bracketed(&result.difference.ap, true) });
            row.extend([result.share.first, result.share.last].map(|share| significant(share, 3, 1e-3)));
            rows.push(row);
        }
        rows
    }

    /// `step 12 (seed 1), step 40 (seed 3)`.
    pub fn diverged(&self, result: &ArmResult) -> String {
        let steps = self.seeds.iter().zip(&result.records).filter_map(|(seed, record)| match record {
            Record::Diverged { step, .. } => Some(format!("step {step} (seed {seed})")),
            Record::Finished { .. } => None,
        });
        steps.collect::<Vec<_>>().join(", ")
    }

    /// Everything, with each seed's own figures.
    pub fn json(&self) -> Value {
        let arms = self.set.arms.iter().zip(&self.arms).map(|(arm, result)| {
            let runs = self.seeds.iter().zip(&result.records).map(|(seed, record)| match record {
                Record::Finished { steps, metrics } => {
                    json!({"seed": seed, "status": "finished", "steps": steps, "metrics": metrics})
                }
                Record::Diverged { step, message } => {
                    json!({"seed": seed, "status": "diverged", "step": step, "message": message})
                }
            });
            json!({
                "name": arm.name, "title": arm.title, "config": arm.config,
                "figures": result.figures, "difference": result.difference,
                "positive_share": {
                    "first": result.share.first, "last": result.share.last, "curve": result.share.curve,
                },
                "runs": runs.collect::<Vec<_>>(),
            })
        });
        json!({
            "config": self.config, "set": self.set.name, "reference": self.set.reference, "seeds": self.seeds,
            "images": self.images, "resamples": self.resamples, "confidence": CONFIDENCE,
            "rarest": self.rarest.iter().map(|c| json!({"name": c.name, "objects": c.objects})).collect::<Vec<_>>(),
            "arms": arms.collect::<Vec<_>>(),
        })
    }
}

/// `0.312 [0.290, 0.335]`, with a sign where it is a difference.
fn bracketed(estimate: &Option<Estimate>, signed: bool) -> String {
    let number = |value: f64| if signed { format!("{value:+.3}") } else { format!("{value:.3}") };
    match estimate {
        Some(Estimate { mean, low, high }) => format!("{} [{}, {}]", number(*mean), number(*low), number(*high)),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_sums() {
        let part = |step, positive, negative| LossParts { step, positive, negative };
        // Two seeds: 1 of 100 and 3 of 100 in the first step; then 200 steps of one half.
        let mut parts = vec![part(1, 1.0, 99.0), part(1, 3.0, 97.0)];
        parts.extend((2..=200).map(|step| part(step, 2.0, 2.0)));
        let share = Share::of(&parts);
        assert_eq!((share.first, share.last), (0.02, 0.5));
        assert_eq!(share.curve.len(), 50); // 4 steps a point
        assert!(share.curve[0].0 == 2.0 && share.curve[0].1 < 0.1 && share.curve[49] == (198.0, 0.5));
        assert_eq!(Share::of(&[]), Share::default());
    }

    #[test]
    fn estimates_are_bracketed() {
        let estimate = Some(Estimate { mean: 0.0312, low: -0.01, high: 0.07 });
        assert_eq!(bracketed(&estimate, true), "+0.031 [-0.010, +0.070]");
        assert_eq!(bracketed(&None, false), "-");
    }
}
