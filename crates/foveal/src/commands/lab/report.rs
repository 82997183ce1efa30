//! The result of a lab as a table for the terminal, as Markdown and as JSON.

use foveal_base::printable;
use serde_json::{Value, json};

use super::arms::ArmSet;
use super::budget::Budget;
use super::runs::{LossParts, Record};
use super::statistics::{CONFIDENCE, Estimate, Metrics};
use crate::output::significant;

/// Highest number of points of the curve of the positives' share.
const POINTS: u64 = 60;
/// Fraction of the steps that count as the last steps.
const LAST: f64 = 0.1;

/// One of the rarest classes.
pub(super) struct RareClass {
    /// Name of the category.
    pub name: String,
    /// Number of objects in the training set.
    pub objects: usize,
}

/// The result of one arm over all seeds.
pub(super) struct ArmResult {
    /// The outcome of each seed, in the order of the seeds.
    pub records: Vec<Record>,
    /// Metrics over all seeds.
    pub metrics: Metrics,
    /// Metrics of this arm minus those of the reference arm.
    pub difference: Metrics,
    /// The positives' share of the class loss.
    pub share: Share,
    /// Seconds of training of each seed, by the logs.
    pub seconds: Vec<f64>,
}

impl ArmResult {
    /// The number of steps of the finished seeds and the mean seconds of their training, for a table.
    fn length(&self) -> [String; 2] {
        let finished = self.records.iter().zip(&self.seconds).filter_map(|(record, seconds)| match record {
            Record::Finished { steps, .. } => Some((*steps, *seconds)),
            Record::Diverged { .. } => None,
        });
        let (steps, seconds): (Vec<u64>, Vec<f64>) = finished.unzip();
        match steps.first() {
            None => ["-".to_owned(), "-".to_owned()],
            Some(steps) => {
                let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
                [steps.to_string(), format!("{mean:.1} s")]
            }
        }
    }
}

/// The positives' share of the class loss over the steps, over all seeds, as fractions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Share {
    /// Share in the first step.
    pub first: f64,
    /// Share in the last tenth of the steps.
    pub last: f64,
    /// For each range of steps, its middle and the share in it.
    pub curve: Vec<(f64, f64)>,
}

impl Share {
    /// Computes the shares of the given steps. A share is a ratio of sums, so steps with a large loss have more weight.
    pub(super) fn of(parts: &[LossParts]) -> Self {
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

/// The result of a lab.
pub(super) struct Report {
    /// Name of the configuration.
    pub config: String,
    /// The arms that were compared.
    pub set: ArmSet,
    /// The seeds of each arm.
    pub seeds: Vec<u64>,
    /// Number of validation images.
    pub images: usize,
    /// Number of bootstrap resamples.
    pub resamples: usize,
    /// The rarest classes, rarest first.
    pub rarest: Vec<RareClass>,
    /// The training time that all runs share, if there is one.
    pub budget: Option<Budget>,
    /// The result of each arm, in the order of the set.
    pub arms: Vec<ArmResult>,
}

impl Report {
    /// The result as a table for the terminal.
    pub(super) fn text(&self) -> String {
        let rows = self.rows(plain);
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = format!(" {}\n {}\n\n", self.title(plain), self.conditions(plain));
        for row in &rows {
            for (cell, width) in row.iter().zip(&widths) {
                out += &format!(" {cell}{}  ", " ".repeat(width - cell.chars().count()));
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out
    }

    /// The result as Markdown, with a reference to the image file `figure`.
    pub(super) fn markdown(&self, figure: &str) -> String {
        let rows = self.rows(markdown);
        let line = |row: &[String]| format!("| {} |\n", row.join(" | "));
        let mut out = format!("# {}\n\n{}\n\n", self.title(markdown), self.conditions(markdown));
        out += &line(&rows[0]);
        out += &format!("|{}\n", "---|".repeat(rows[0].len()));
        rows[1..].iter().for_each(|row| out += &line(row));
        out + &format!(
            "\n![AP, AP of the rarest classes, and the positives' share of the class loss over time]({figure})\n"
        )
    }

    fn title(&self, name: fn(&str) -> String) -> String {
        format!("{}, arms {}: {}", name(&self.config), name(&self.set.name), name(&self.set.about))
    }

    fn conditions(&self, name: fn(&str) -> String) -> String {
        let rarest: Vec<String> = self.rarest.iter().map(|c| format!("{} ({})", name(&c.name), c.objects)).collect();
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        let time = self.budget.as_ref().map_or_else(String::new, |budget| {
            format!(
                "Each run gets {:.1} s of training on {}, the same for all arms; its number of steps follows from the \
                 measured time of a step. ",
                budget.run_seconds,
                name(&budget.device)
            )
        });
        format!(
            "{time}Seeds {}; evaluation of the last weights on {} validation images. In brackets: {:.0} % intervals from {} \
             resamples of images and seeds. Rarest classes (number of training objects): {}.",
            seeds.join(", "),
            self.images,
            100.0 * CONFIDENCE,
            self.resamples,
            rarest.join(", ")
        )
    }

    /// The heading and one row for each arm. `name` escapes the names.
    fn rows(&self, name: fn(&str) -> String) -> Vec<Vec<String>> {
        let mut heading: Vec<String> =
            ["arm", "AP", "AP50", "AP rarest", "AR100"].into_iter().map(str::to_owned).collect();
        heading.push(format!("AP minus {}", name(&self.set.reference)));
        if self.budget.is_some() {
            heading.extend(["steps", "training time"].map(str::to_owned));
        }
        heading.push("positives' share, first step".to_owned());
        heading.push("last tenth of the steps".to_owned());
        let mut rows = vec![heading];
        for (arm, result) in self.set.arms.iter().zip(&self.arms) {
            let mut title = name(&arm.title);
            let diverged = self.diverged(result);
            if !diverged.is_empty() {
                title = format!("{title}; diverged: {diverged}");
            }
            let Metrics { ap, ap50, ap_rare, ar100 } = &result.metrics;
            let mut row = vec![title];
            row.extend([ap, ap50, ap_rare, ar100].map(|metric| bracketed(metric, false)));
            let is_reference = arm.name == self.set.reference;
            row.push(if is_reference { "-".to_owned() } else { bracketed(&result.difference.ap, true) });
            if self.budget.is_some() {
                row.extend(result.length());
            }
            row.extend([result.share.first, result.share.last].map(|share| significant(share, 3, 1e-3)));
            rows.push(row);
        }
        rows
    }

    /// The steps at which seeds diverged, such as `step 12 (seed 1), step 40 (seed 3)`; empty if none did.
    pub(super) fn diverged(&self, result: &ArmResult) -> String {
        let steps = self.seeds.iter().zip(&result.records).filter_map(|(seed, record)| match record {
            Record::Diverged { step, .. } => Some(format!("step {step} (seed {seed})")),
            Record::Finished { .. } => None,
        });
        steps.collect::<Vec<_>>().join(", ")
    }

    /// The result as JSON, with the metrics of each seed.
    pub(super) fn json(&self) -> Value {
        let arms = self.set.arms.iter().zip(&self.arms).map(|(arm, result)| {
            let runs = self.seeds.iter().zip(&result.records).zip(&result.seconds);
            let runs = runs.map(|((seed, record), seconds)| match record {
                Record::Finished { steps, metrics } => json!({
                    "seed": seed, "status": "finished", "steps": steps, "training_seconds": seconds,
                    "metrics": metrics,
                }),
                Record::Diverged { step, message } => {
                    json!({"seed": seed, "status": "diverged", "step": step, "message": message})
                }
            });
            json!({
                "name": arm.name, "title": arm.title, "config": arm.config,
                "figures": result.metrics, "difference": result.difference,
                "positive_share": {
                    "first": result.share.first, "last": result.share.last, "curve": result.share.curve,
                },
                "runs": runs.collect::<Vec<_>>(),
            })
        });
        json!({
            "config": self.config, "set": self.set.name, "reference": self.set.reference, "seeds": self.seeds,
            "images": self.images, "resamples": self.resamples, "confidence": CONFIDENCE,
            "budget": self.budget.as_ref().map(Budget::json),
            "rarest": self.rarest.iter().map(|c| json!({"name": c.name, "objects": c.objects})).collect::<Vec<_>>(),
            "arms": arms.collect::<Vec<_>>(),
        })
    }
}

/// A name in a table for the terminal.
fn plain(name: &str) -> String {
    printable(name).into_owned()
}

/// A name in Markdown: characters that would format the text, begin a link or a cell of a table, or stand for HTML have
/// a backslash before them.
fn markdown(name: &str) -> String {
    let mut out = String::new();
    for c in printable(name).chars() {
        if "\\`*_[]<>&|~".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    // Addresses become links even without brackets.
    out.replace("://", "\\://")
}

/// Formats an estimate, such as `0.312 [0.290, 0.335]`; `signed` adds a sign, for differences.
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
    fn shares_are_ratios_of_sums() {
        let part = |step, positive, negative| LossParts { step, positive, negative };
        // Two seeds: shares of 1 % and 3 % in the first step, then 199 steps with a share of one half.
        let mut parts = vec![part(1, 1.0, 99.0), part(1, 3.0, 97.0)];
        parts.extend((2..=200).map(|step| part(step, 2.0, 2.0)));
        let share = Share::of(&parts);
        assert_eq!((share.first, share.last), (0.02, 0.5));
        assert_eq!(share.curve.len(), 50); // 4 steps per point
        assert!(share.curve[0].0 == 2.0 && share.curve[0].1 < 0.1 && share.curve[49] == (198.0, 0.5));
        assert_eq!(Share::of(&[]), Share::default());
    }

    #[test]
    fn names_cannot_format_a_table() {
        let name = "a|b\n# <b>_x_</b> [y](http://z) `\u{1b}[2J\u{202e}";
        assert_eq!(plain(name), r"a|b\n# <b>_x_</b> [y](http://z) `\u{1b}[2J\u{202e}");
        let expected = r"a\|b\\n# \<b\>\_x\_\</b\> \[y\](http\://z) \`\\u{1b}\[2J\\u{202e}";
        assert_eq!(markdown(name), expected);
        assert_eq!(markdown("focal (0.25, 2) – červená 青"), "focal (0.25, 2) – červená 青");
    }

    #[test]
    fn estimates_have_their_interval_in_brackets() {
        let estimate = Some(Estimate { mean: 0.0312, low: -0.01, high: 0.07 });
        assert_eq!(bracketed(&estimate, true), "+0.031 [-0.010, +0.070]");
        assert_eq!(bracketed(&None, false), "-");
    }
}
