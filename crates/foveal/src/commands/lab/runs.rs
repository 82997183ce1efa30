//! One arm with one seed: trained, gone on with, or found finished.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use foveal_coco::{CocoDetection, LabelMap, read_results, write_results};
use foveal_detector::Checkpoint;
use foveal_train::{Evaluation, Evaluator, Outcome, RunConfig, RunDir, StepRecord, TrainError, train};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::output;
use crate::progress::Console;

/// How a run ended; the file that says so is what makes it finished.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Record {
    /// All steps are done, and the last weights were evaluated.
    Finished {
        /// Optimizer steps made.
        steps: u64,
        /// COCO's figures.
        metrics: Value,
    },
    /// A loss or gradient was not finite.
    Diverged {
        /// The step, from 1.
        step: u64,
        /// What training said.
        message: String,
    },
}

/// One run of a lab.
pub struct Job {
    /// What to train.
    pub config: RunConfig,
    /// Where.
    pub folder: PathBuf,
    /// For messages: `arm focal, seed 1`.
    pub name: String,
}

/// Steps and what the class loss came to: from positives and from all else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossParts {
    pub step: u64,
    pub positive: f64,
    pub negative: f64,
}

const RECORD: &str = "outcome.json";
const DETECTIONS: &str = "detections.json";

impl Job {
    /// What is known of this run, where it is finished.
    ///
    /// # Errors
    /// Files that cannot be read, or a run of another configuration.
    pub fn record(&self) -> Result<Option<Record>> {
        let path = self.folder.join(RECORD);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("cannot read {}", path.display()))?,
        };
        self.same_config()?;
        serde_json::from_str(&text).map(Some).with_context(|| format!("{}: no record of a run", path.display()))
    }

    /// The detections of a finished run.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn detections(&self) -> Result<Vec<CocoDetection>> {
        Ok(read_results(&self.folder.join(DETECTIONS))?)
    }

    /// The class loss's parts over time, as the run's log has them.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub fn loss_parts(&self) -> Result<Vec<LossParts>> {
        let path = self.folder.join("log.jsonl");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // The other lines of a log are epochs and evaluations.
        let steps = text.lines().filter_map(|line| serde_json::from_str::<StepRecord>(line).ok());
        Ok(steps.map(|s| LossParts { step: s.step, positive: s.positive_loss, negative: s.negative_loss }).collect())
    }

    /// Trains from the start or from where an earlier call stopped; `None` when interrupted.
    ///
    /// # Errors
    /// Config, data, weights or files; not a loss that is not finite, which is a result.
    pub fn run(&self, device: &Device, stop: &AtomicBool) -> Result<Option<Record>> {
        let (run, resume) = self.open()?;
        let mut console = Console::new();
        let record = match train(&self.config, device, &run, resume, &mut console, stop) {
            Ok(Outcome::Interrupted { .. }) => return Ok(None),
            Ok(Outcome::Finished(summary)) => {
                let evaluation = match summary.evaluation {
                    Some(evaluation) => evaluation,
                    // All was done before, but for this record.
                    None => match self.evaluate(&run, device, &mut console, stop)? {
                        Some(evaluation) => evaluation,
                        None => return Ok(None),
                    },
                };
                write_results(&self.folder.join(DETECTIONS), &evaluation.detections)?;
                Record::Finished { steps: summary.step, metrics: evaluation.metrics.to_json() }
            }
            Err(error @ TrainError::NonFinite { step, .. }) => Record::Diverged { step, message: error.to_string() },
            Err(error) => return Err(error).with_context(|| self.name.clone()),
        };
        drop(console);
        // Last, and whole or not at all: whoever sees it finds the rest.
        output::write_json(&self.folder.join(RECORD), &record)?;
        Ok(Some(record))
    }

    /// The run's folder, and whether it holds a state to go on from.
    fn open(&self) -> Result<(RunDir, bool)> {
        if let Ok(run) = RunDir::resume(&self.folder) {
            self.same_config()?;
            return Ok((run, true));
        }
        // A run that was stopped before its first state left at most these, which say nothing.
        for file in ["config.toml", "weights.json", "skipped.json", "log.jsonl", "metrics.csv"] {
            remove(&self.folder.join(file), |path| std::fs::remove_file(path))?;
        }
        for folder in ["checkpoints", "state"] {
            remove(&self.folder.join(folder), |path| std::fs::remove_dir(path))?;
        }
        Ok((RunDir::create(&self.folder)?, false))
    }

    /// Refuses to mix runs of different configurations.
    fn same_config(&self) -> Result<()> {
        let path = self.folder.join("config.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let found: RunConfig =
            toml::from_str(&text).with_context(|| format!("{}: no configuration", path.display()))?;
        let [found, wanted] = [&found, &self.config].map(serde_json::to_value);
        match difference("", &found?, &wanted?) {
            None => Ok(()),
            Some(key) => bail!(
                "{}: a run of another configuration ({key}); take another --out, or remove that folder",
                self.folder.display()
            ),
        }
    }

    fn evaluate(
        &self,
        run: &RunDir,
        device: &Device,
        console: &mut Console,
        stop: &AtomicBool,
    ) -> Result<Option<Evaluation>> {
        let checkpoint = Checkpoint::load(&run.last(), device)?;
        let labels = LabelMap::new(checkpoint.meta.categories.clone())?;
        let dataset = Arc::new(self.config.data.open_val_with(Some(&labels))?.dataset);
        let evaluator = Evaluator::new(&self.config, &checkpoint.meta.model, dataset, device);
        Ok(evaluator.run(&checkpoint.model, console, stop)?)
    }
}

fn remove(path: &Path, how: fn(&Path) -> std::io::Result<()>) -> Result<()> {
    match how(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The first key that two trees do not share, with both values.
fn difference(path: &str, found: &Value, wanted: &Value) -> Option<String> {
    match (found, wanted) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            let null = Value::Null;
            keys.find_map(|key| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                difference(&path, a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null))
            })
        }
        _ if found == wanted => None,
        _ => Some(format!("{path}: {found} there, {wanted} wanted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_named() {
        let a = json!({"train": {"lr": 0.1, "seed": 1}, "name": "x"});
        assert_eq!(difference("", &a, &a), None);
        let b = json!({"train": {"lr": 0.1, "seed": 2}, "name": "x"});
        assert_eq!(difference("", &a, &b).unwrap(), "train.seed: 1 there, 2 wanted");
        let c = json!({"train": {"lr": 0.1, "seed": 1, "ema": 0.5}, "name": "x"});
        assert!(difference("", &a, &c).unwrap().starts_with("train.ema: null there"));
    }
}
