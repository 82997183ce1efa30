//! `log.jsonl` and `metrics.csv`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::evaluate::{Evaluation, MeanLosses};
use crate::file::write_atomically;
use crate::rundir::RunDir;

/// One line a log interval: means over its steps; sums where said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Optimizer steps made, from 1.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: usize,
    /// Learning rate of the interval's last step.
    pub lr: f64,
    /// What is minimised.
    pub loss: f64,
    /// Its part over anchors and classes.
    pub class_loss: f64,
    /// Its part over positive anchors, before `loss.box_weight`.
    pub box_loss: f64,
    /// Positive anchors a step.
    pub positives: f64,
    /// The class loss's part from positives.
    pub positive_loss: f64,
    /// The class loss's part from all else.
    pub negative_loss: f64,
    /// `positive_loss` over both.
    pub positive_share: f64,
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Images a second. Timing: no two runs agree.
    pub images_per_second: f64,
    /// Fraction of the time spent waiting for images. Timing.
    pub data_wait: f64,
}

/// One line an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Marks the line.
    pub event: EpochEvent,
    /// Finished epochs.
    pub epoch: usize,
    /// Optimizer steps made.
    pub step: u64,
    /// Mean loss over the epoch's steps.
    pub mean_loss: f64,
    /// Duration. Timing.
    pub seconds: f64,
}

/// One line an evaluation; a row of `metrics.csv` too.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationRecord {
    /// Marks the line.
    pub event: EvaluationEvent,
    /// Finished epochs.
    pub epoch: usize,
    /// Optimizer steps made.
    pub step: u64,
    /// On the validation set.
    pub losses: MeanLosses,
    /// COCO's figures and those of each class.
    pub metrics: serde_json::Value,
}

impl EvaluationRecord {
    /// The line of an evaluation.
    pub fn new(epoch: usize, step: u64, evaluation: &Evaluation) -> Self {
        let metrics = evaluation.metrics.to_json();
        Self { event: EvaluationEvent::Evaluation, epoch, step, losses: evaluation.losses, metrics }
    }
}

/// The mark of an evaluation's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvaluationEvent {
    /// An evaluation.
    Evaluation,
}

/// The mark of an epoch's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EpochEvent {
    /// An epoch's end.
    Epoch,
}

/// The two files, open for more lines.
#[derive(Debug)]
pub struct RunLog {
    log: File,
    log_path: PathBuf,
    metrics: PathBuf,
    rows: String,
}

/// COCO's figures, as `Metrics::to_json` and `metrics.csv` name them.
const FIGURES: [&str; 12] = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];

impl RunLog {
    /// Opens both files; what they say of steps after `step` and of evaluations after epoch `evaluated` is dropped,
    /// for those come again.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn open(dir: &RunDir, step: u64, evaluated: usize) -> Result<Self, TrainError> {
        let (log_path, metrics) = (dir.log(), dir.metrics());
        let kept: String = read(&log_path)?
            .lines()
            .filter(|line| is_known(line, step, evaluated))
            .flat_map(|line| [line, "\n"])
            .collect();
        let rows: String = read(&metrics)?
            .lines()
            .skip(1)
            .filter(|row| row.split(',').next().and_then(|e| e.parse().ok()).is_some_and(|e: usize| e <= evaluated))
            .flat_map(|row| [row, "\n"])
            .collect();
        write_atomically(&log_path, kept.as_bytes())?;
        write_atomically(&metrics, format!("{}{rows}", header()).as_bytes())?;
        let log = File::options().append(true).open(&log_path).map_err(TrainError::io(&log_path))?;
        Ok(Self { log, log_path, metrics, rows })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn line(&mut self, record: &impl Serialize) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(record).expect("plain data is JSON");
        line.push('\n');
        self.log.write_all(line.as_bytes()).map_err(TrainError::io(&self.log_path))
    }

    /// Adds an evaluation to both files.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn evaluation(&mut self, record: &EvaluationRecord) -> Result<(), TrainError> {
        self.line(record)?;
        let losses = [record.losses.class, record.losses.boxes, record.losses.total].into_iter();
        let figures = FIGURES.iter().map(|key| record.metrics[key].as_f64().unwrap_or(f64::NAN));
        let row: Vec<String> = losses.chain(figures).map(|f| format!("{f:.6}")).collect();
        self.rows += &format!("{},{},{}\n", record.epoch, record.step, row.join(","));
        write_atomically(&self.metrics, format!("{}{}", header(), self.rows).as_bytes())?;
        Ok(())
    }
}

/// The first line of `metrics.csv`.
fn header() -> String {
    format!("epoch,step,class_loss,box_loss,loss,{}\n", FIGURES.join(","))
}

fn read(path: &Path) -> Result<String, TrainError> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(TrainError::io(path)),
    }
}

/// Whether a line speaks of steps up to `step` and, being of an evaluation, of epochs up to `evaluated`.
fn is_known(line: &str, step: u64, evaluated: usize) -> bool {
    let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { return false };
    let is_past = |key: &str, limit: u64| line.get(key).and_then(|v| v.as_u64()).is_some_and(|v| v <= limit);
    let is_evaluation = line.get("event").is_some_and(|e| e == "evaluation");
    is_past("step", step) && (!is_evaluation || is_past("epoch", evaluated as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_after_the_state_are_dropped_and_half_lines_too() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("r")).unwrap();
        let log = "{\"step\":1}\n{\"step\":2,\"event\":\"epoch\"}\n{\"step\":3}\n{\"st";
        std::fs::write(run.log(), log).unwrap();
        std::fs::write(run.metrics(), format!("{}1,2,0\n2,4,0\n", header())).unwrap();
        RunLog::open(&run, 2, 1).unwrap().line(&json!({"step": 9})).unwrap();
        let text = std::fs::read_to_string(run.log()).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2,\"event\":\"epoch\"}\n{\"step\":9}\n");
        assert_eq!(std::fs::read_to_string(run.metrics()).unwrap(), format!("{}1,2,0\n", header()));
    }
}
