//! `log.jsonl` and `metrics.csv`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use foveal_criterion::BreakdownRecord;
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
    /// Where the class loss came from: on a CPU over all steps of the line, on other devices in its last step.
    #[serde(default, rename = "ledger", skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<BreakdownRecord>,
}

/// One line an epoch; a row of `metrics.csv` too.
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
    /// Where the class loss came from, over the steps whose lines have a breakdown; with the negatives' histogram.
    #[serde(default, rename = "ledger", skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<BreakdownRecord>,
}

/// One line an evaluation; its figures stand in the epoch's row of `metrics.csv` too.
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
    rows: Vec<Row>,
}

/// A row of `metrics.csv`: an epoch, evaluated or not.
#[derive(Clone, Debug)]
struct Row {
    epoch: usize,
    step: u64,
    /// Losses and COCO's figures; empty cells where there was no evaluation.
    evaluation: Vec<String>,
    breakdown: Vec<String>,
}

/// The losses of an evaluation in `metrics.csv`.
const LOSSES: [&str; 3] = ["class_loss", "box_loss", "loss"];
/// COCO's figures, as `Metrics::to_json` and `metrics.csv` name them.
const FIGURES: [&str; 12] = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];
/// The class loss of the epoch's training steps: means a step, but for the shares.
const BREAKDOWN: [&str; 10] = [
    "train_positive_loss",
    "train_negative_loss",
    "train_positive_share",
    "train_positive_gradient_share",
    "train_positive_p_t",
    "train_negative_p_t",
    "train_positives",
    "train_negatives",
    "train_ignored",
    "train_half_of_negative_loss",
];

impl Row {
    fn new(epoch: usize, step: u64) -> Self {
        let empty = |n: usize| vec![String::new(); n];
        Self { epoch, step, evaluation: empty(LOSSES.len() + FIGURES.len()), breakdown: empty(BREAKDOWN.len()) }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut cells = line.split(',');
        let mut row = Self::new(cells.next()?.parse().ok()?, cells.next()?.parse().ok()?);
        for (own, cell) in row.evaluation.iter_mut().chain(&mut row.breakdown).zip(cells) {
            cell.clone_into(own);
        }
        Some(row)
    }

    fn line(&self) -> String {
        let cells: Vec<&str> = self.evaluation.iter().chain(&self.breakdown).map(String::as_str).collect();
        format!("{},{},{}\n", self.epoch, self.step, cells.join(","))
    }
}

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
        let mut rows: Vec<Row> =
            read(&metrics)?.lines().skip(1).filter_map(Row::parse).filter(|row| row.step <= step).collect();
        for row in rows.iter_mut().filter(|row| row.epoch > evaluated) {
            row.evaluation.iter_mut().for_each(String::clear);
        }
        write_atomically(&log_path, kept.as_bytes())?;
        let log = File::options().append(true).open(&log_path).map_err(TrainError::io(&log_path))?;
        let log = Self { log, log_path, metrics, rows };
        log.write_rows()?;
        Ok(log)
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

    /// Adds an epoch to both files.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn epoch(&mut self, record: &EpochRecord) -> Result<(), TrainError> {
        self.line(record)?;
        if let Some(breakdown) = &record.breakdown {
            let (positive, negative) = (&breakdown.positive, &breakdown.negative);
            let values = [
                positive.loss,
                negative.loss,
                breakdown.positive_share,
                breakdown.positive_gradient_share,
                positive.mean_p_t,
                negative.mean_p_t,
                positive.pairs,
                negative.pairs,
                breakdown.ignored,
                breakdown.half_of_negative_loss,
            ];
            // Half of the loss may lie with a millionth of the negatives.
            self.row(record.epoch, record.step).breakdown = values.iter().map(|v| format!("{v:.9}")).collect();
        }
        self.write_rows()
    }

    /// Adds an evaluation to both files.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn evaluation(&mut self, record: &EvaluationRecord) -> Result<(), TrainError> {
        self.line(record)?;
        let losses = [record.losses.class, record.losses.boxes, record.losses.total].into_iter();
        let figures = FIGURES.iter().map(|key| record.metrics[key].as_f64().unwrap_or(f64::NAN));
        self.row(record.epoch, record.step).evaluation = losses.chain(figures).map(|f| format!("{f:.6}")).collect();
        self.write_rows()
    }

    /// The row of an epoch, a new one where there is none.
    fn row(&mut self, epoch: usize, step: u64) -> &mut Row {
        let place = self.rows.iter().position(|row| row.epoch == epoch);
        let place = place.unwrap_or_else(|| {
            self.rows.push(Row::new(epoch, step));
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }

    fn write_rows(&self) -> Result<(), TrainError> {
        let rows: String = self.rows.iter().map(Row::line).collect();
        write_atomically(&self.metrics, format!("{}{rows}", header()).as_bytes())?;
        Ok(())
    }
}

/// The first line of `metrics.csv`.
fn header() -> String {
    format!("epoch,step,{},{},{}\n", LOSSES.join(","), FIGURES.join(","), BREAKDOWN.join(","))
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
        std::fs::write(run.metrics(), format!("{}1,2,0\n2,2,7\n3,4,0\n", header())).unwrap();
        RunLog::open(&run, 2, 1).unwrap().line(&json!({"step": 9})).unwrap();
        let text = std::fs::read_to_string(run.log()).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2,\"event\":\"epoch\"}\n{\"step\":9}\n");
        // Of the second epoch only the steps are known, and the third comes again.
        let cells = LOSSES.len() + FIGURES.len() + BREAKDOWN.len();
        let (first, second) = (",".repeat(cells - 1), ",".repeat(cells));
        let expected = format!("{}1,2,0{first}\n2,2{second}\n", header());
        assert_eq!(std::fs::read_to_string(run.metrics()).unwrap(), expected);
    }
}
