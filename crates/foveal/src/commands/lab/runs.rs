//! A run of a lab, which trains one arm with one seed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use foveal_coco::{CocoDetection, LabelMap, read_results, write_results};
use foveal_detector::Checkpoint;
use foveal_train::{
    EpochRecord, Evaluation, Evaluator, Outcome, RunConfig, RunDir, Start, StepRecord, TrainError, train,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::output;
use crate::progress::Console;

/// The outcome of a run. A run is finished if its folder contains this record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(super) enum Record {
    /// All steps were done and the last weights were evaluated.
    Finished {
        /// Number of optimizer steps.
        steps: u64,
        /// COCO metrics, as in the output of `foveal eval --json`.
        metrics: Value,
    },
    /// Training stopped because a loss or gradient was not finite.
    Diverged {
        /// The step at which training stopped, counted from 1.
        step: u64,
        /// The error message of the training.
        message: String,
    },
}

/// One run of a lab.
pub(super) struct Job {
    /// Configuration of the run.
    pub config: RunConfig,
    /// Folder of the run.
    pub folder: PathBuf,
    /// Name in messages, such as `arm focal, seed 1`.
    pub name: String,
    /// Name of the arm.
    pub arm: String,
}

/// The class loss of a step, divided into the parts of positives and negatives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LossParts {
    /// The step, counted from 1.
    pub step: u64,
    /// The part of the positives.
    pub positive: f64,
    /// The part of the negatives.
    pub negative: f64,
}

/// File name of the outcome of a run.
const RECORD: &str = "outcome.json";
/// File name of the detections of the last evaluation.
const DETECTIONS: &str = "detections.json";
/// File names of the settings and logs of a run.
const RUN_FILES: [&str; 6] =
    ["config.toml", "weights.json", "skipped.json", "log.jsonl", "metrics.csv", "events.out.tfevents.foveal"];

impl Job {
    /// The files that this run writes beside its checkpoints.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        [RECORD, DETECTIONS].into_iter().chain(RUN_FILES).map(|name| self.folder.join(name))
    }

    /// The outcome of this run; `None` if it is not finished.
    ///
    /// # Errors
    /// If a file cannot be read, or the folder contains a run of another configuration.
    pub(super) fn record(&self) -> Result<Option<Record>> {
        let path = self.folder.join(RECORD);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("cannot read {}", path.display()))?,
        };
        self.same_config()?;
        serde_json::from_str(&text).map(Some).with_context(|| {
            format!("{}: invalid record of a run; remove the file to evaluate the run again", path.display())
        })
    }

    /// The detections of a finished run on the validation set.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn detections(&self) -> Result<Vec<CocoDetection>> {
        Ok(read_results(&self.folder.join(DETECTIONS))?)
    }

    /// The parts of the class loss in each logged step of the run.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(super) fn loss_parts(&self) -> Result<Vec<LossParts>> {
        let text = self.log()?;
        // Lines of epochs and evaluations do not parse as steps and are skipped.
        let steps = text.lines().filter_map(|line| serde_json::from_str::<StepRecord>(line).ok());
        Ok(steps.map(|s| LossParts { step: s.step, positive: s.positive_loss, negative: s.negative_loss }).collect())
    }

    /// Seconds of training by the log: the duration of all epochs without evaluation. What an interruption cut off is
    /// not part of it.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(super) fn training_seconds(&self) -> Result<f64> {
        let text = self.log()?;
        let epochs = text.lines().filter_map(|line| serde_json::from_str::<EpochRecord>(line).ok());
        Ok(epochs.map(|epoch| epoch.seconds).sum())
    }

    fn log(&self) -> Result<String> {
        let path = self.folder.join("log.jsonl");
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Trains from the start, or continues a run that was stopped. Returns `None` if interrupted.
    ///
    /// # Errors
    /// If the configuration, the data or the weights cannot be used, or a file cannot be read or written. A loss that
    /// is not finite is not an error but an outcome.
    pub(super) fn run(&self, device: &Device, stop: &AtomicBool) -> Result<Option<Record>> {
        let (run, start) = self.open()?;
        let mut console = Console::new();
        let record = match train(&self.config, device, &run, start, &mut console, stop) {
            Ok(Outcome::Interrupted { .. }) => return Ok(None),
            Ok(Outcome::Finished(summary)) => {
                let evaluation = match summary.evaluation {
                    Some(evaluation) => evaluation,
                    // An earlier call did all steps but did not write the record.
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
        // This file is written last and atomically, so that all other files exist if it does.
        output::write_json(&self.folder.join(RECORD), &record)?;
        Ok(Some(record))
    }

    /// Opens the run directory. A run that was stopped before it saved a state begins anew.
    fn open(&self) -> Result<(RunDir, Start)> {
        match RunDir::resume(&self.folder) {
            Ok(run) if run.has_state() => {
                self.same_config()?;
                Ok((run, Start::Resume { allow_changes: false }))
            }
            Ok(run) => Ok((run, Start::New)),
            Err(TrainError::NoState { .. }) => Ok((RunDir::create(&self.folder)?, Start::New)),
            Err(error) => Err(error.into()),
        }
    }

    /// Checks that the run directory belongs to a run of the same configuration.
    ///
    /// # Errors
    /// If it does not; the error names the first key that differs, with both values.
    fn same_config(&self) -> Result<()> {
        let path = self.folder.join("config.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let found =
            RunConfig::from_toml(&text).with_context(|| format!("{}: not a valid configuration", path.display()))?;
        let [found, wanted] = [&found, &self.config].map(serde_json::to_value);
        match difference("", &found?, &wanted?) {
            None => Ok(()),
            Some(key) => bail!(
                "{}: contains a run of another configuration ({key}); choose another --out or remove the folder",
                self.folder.display()
            ),
        }
    }

    /// Evaluates the last checkpoint of the run; `None` if interrupted.
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

/// The first key whose values differ, with both values; `None` if the trees are equal.
pub(super) fn difference(path: &str, found: &Value, wanted: &Value) -> Option<String> {
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
        _ => Some(format!("{path}: found {found}, expected {wanted}")),
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
        assert_eq!(difference("", &a, &b).unwrap(), "train.seed: found 1, expected 2");
        let c = json!({"train": {"lr": 0.1, "seed": 1, "ema": 0.5}, "name": "x"});
        assert!(difference("", &a, &c).unwrap().starts_with("train.ema: found null"));
    }
}
