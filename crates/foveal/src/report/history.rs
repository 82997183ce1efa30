//! What the log of a run says about its steps, epochs and evaluations.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// The lines of `log.jsonl`, by what they are about.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) steps: Vec<Line>,
    pub(crate) epochs: Vec<Line>,
    pub(crate) evaluations: Vec<Line>,
    /// Number of steps that were left out or rewound because their losses were not finite.
    pub(crate) non_finite: usize,
    /// Whether the run ended by itself before its planned end, for lack of gains or of time.
    pub(crate) ended_by_itself: bool,
}

/// A line of `log.jsonl`. Keys that a line does not have, and values that are null, are `None`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    event: Option<String>,
    pub(crate) step: u64,
    pub(crate) epoch: usize,
    pub(crate) lr: Option<f64>,
    pub(crate) last_lr: Option<f64>,
    pub(crate) loss: Option<f64>,
    pub(crate) class_loss: Option<f64>,
    pub(crate) box_loss: Option<f64>,
    pub(crate) positives: Option<f64>,
    pub(crate) positive_share: Option<f64>,
    pub(crate) grad_norm: Option<f64>,
    pub(crate) images_per_second: Option<f64>,
    pub(crate) data_wait: Option<f64>,
    pub(crate) mean_loss: Option<f64>,
    pub(crate) mean_class_loss: Option<f64>,
    pub(crate) mean_box_loss: Option<f64>,
    pub(crate) seconds: Option<f64>,
    pub(crate) objects: Option<f64>,
    pub(crate) objects_without_anchor: Option<f64>,
    pub(crate) ledger: Option<Breakdown>,
    losses: Value,
    pub(crate) metrics: Value,
}

/// The breakdown of the class loss in a line.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Breakdown {
    pub(crate) positive_share: Option<f64>,
    pub(crate) positive_gradient_share: Option<f64>,
    pub(crate) levels: Vec<Level>,
}

/// The part of a pyramid level in the breakdown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Level {
    pub(crate) level: u32,
    pub(crate) positive_loss: f64,
    pub(crate) negative_loss: f64,
}

impl Line {
    /// A loss of an evaluation: `class`, `box` or `total`.
    pub(crate) fn validation_loss(&self, name: &str) -> Option<f64> {
        self.losses.get(name)?.as_f64()
    }

    /// A metric of an evaluation, such as `AP`; `None` if it is undefined.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.get(name)?.as_f64().filter(|value| *value >= 0.0)
    }
}

impl History {
    /// Reads the log. Lines that cannot be read, such as one that a killed process left unfinished, are left out.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut history = Self::default();
        for line in BufReader::new(file).split(b'\n') {
            let bytes = line.with_context(|| format!("cannot read {}", path.display()))?;
            if let Ok(line) = serde_json::from_slice::<Line>(&bytes) {
                history.add(line);
            }
        }
        Ok(history)
    }

    fn add(&mut self, line: Line) {
        match line.event.as_deref() {
            None => self.steps.push(line),
            Some("epoch") => self.epochs.push(line),
            Some("evaluation") => self.evaluations.push(line),
            Some("skip" | "rewind") => self.non_finite += 1,
            Some("early_stop" | "time_limit") => self.ended_by_itself = true,
            Some(_) => {}
        }
    }

    /// The evaluation with the highest AP; the first of equal ones.
    pub(crate) fn best(&self) -> Option<&Line> {
        let ap = |line: &&Line| line.metric("AP").unwrap_or(-1.0);
        let defined = self.evaluations.iter().filter(|line| line.metric("AP").is_some());
        defined.rev().max_by(|a, b| ap(a).total_cmp(&ap(b)))
    }

    /// The number of the last step in the log.
    pub(crate) fn last_step(&self) -> u64 {
        let last = |lines: &[Line]| lines.last().map_or(0, |line| line.step);
        last(&self.steps).max(last(&self.epochs)).max(last(&self.evaluations))
    }
}

/// The points `[step, value]` of lines that have the value.
pub(crate) fn points(lines: &[Line], value: impl Fn(&Line) -> Option<f64>) -> Vec<[f64; 2]> {
    lines.iter().filter_map(|line| Some([line.step as f64, value(line)?])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sorted_by_what_they_are_about() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let lines = [
            r#"{"step":1,"epoch":1,"lr":0.1,"loss":2.0,"ledger":{"positive_share":0.9,"levels":[{"level":3}]}}"#,
            r#"{"event":"epoch","epoch":1,"step":2,"mean_loss":null,"seconds":3.0}"#,
            r#"{"event":"skip","epoch":1,"step":2,"losses":{"total":null}}"#,
            r#"{"event":"evaluation","epoch":1,"step":2,"losses":{"total":1.5},"metrics":{"AP":0.5,"APl":-1.0}}"#,
            r#"{"event":"evaluation","epoch":2,"step":4,"losses":{"total":1.0},"metrics":{"AP":0.5}}"#,
            r#"{"step":5,"epo"#,
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let history = History::read(&path).unwrap();
        assert_eq!((history.steps.len(), history.epochs.len(), history.evaluations.len()), (1, 1, 2));
        assert_eq!((history.non_finite, history.last_step()), (1, 4));
        let best = history.best().unwrap();
        assert_eq!((best.epoch, best.metric("APl"), best.validation_loss("total")), (1, None, Some(1.5)));
        assert_eq!(points(&history.steps, |line| line.loss), [[1.0, 2.0]]);
        assert!(points(&history.epochs, |line| line.mean_loss).is_empty());
    }
}
