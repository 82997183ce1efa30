//! The log files of a run: `log.jsonl` and `metrics.csv`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use foveal_base::write_atomically;
use serde::Serialize;

use super::RunDir;
use super::metrics::MetricsFile;
use super::records::{EpochRecord, EvaluationRecord};
use crate::error::TrainError;

/// The log files of a run, open for appending: `log.jsonl`, one JSON object per line, and `metrics.csv`, one row an
/// epoch.
#[derive(Debug)]
pub struct RunLog {
    log: File,
    path: PathBuf,
    metrics: MetricsFile,
}

impl RunLog {
    /// Opens `log.jsonl` and `metrics.csv` in a run folder, and creates them where they do not exist. Entries of steps
    /// after `step` and of evaluations after epoch `evaluated` are removed, because a resumed run repeats them; `step`
    /// and `evaluated` are 0 for a new run.
    ///
    /// # Errors
    /// [`TrainError::Io`] or [`TrainError::Write`] with the path when a file cannot be read or written.
    pub fn open(dir: &RunDir, step: u64, evaluated: usize) -> Result<Self, TrainError> {
        let path = dir.log();
        let kept: String =
            read(&path)?.lines().filter(|line| is_known(line, step, evaluated)).flat_map(|line| [line, "\n"]).collect();
        write_atomically(&path, kept.as_bytes())?;
        let metrics = MetricsFile::open(dir.metrics(), &read(&dir.metrics())?, step, evaluated)?;
        let log = File::options().append(true).open(&path).map_err(TrainError::io(&path))?;
        Ok(Self { log, path, metrics })
    }

    /// Appends a record to `log.jsonl` as a line of JSON.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the file cannot be written.
    ///
    /// # Panics
    /// When the record cannot be expressed as JSON.
    pub fn line(&mut self, record: &impl Serialize) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(record).expect("plain data is JSON");
        line.push('\n');
        self.log.write_all(line.as_bytes()).map_err(TrainError::io(&self.path))
    }

    /// Appends an epoch's record to `log.jsonl` and writes its values to the epoch's row of `metrics.csv`.
    ///
    /// # Errors
    /// [`TrainError::Io`] or [`TrainError::Write`] when a file cannot be written.
    pub fn epoch(&mut self, record: &EpochRecord) -> Result<(), TrainError> {
        self.line(record)?;
        self.metrics.epoch(record)
    }

    /// Appends an evaluation's record to `log.jsonl` and writes its losses and metrics to the epoch's row of
    /// `metrics.csv`.
    ///
    /// # Errors
    /// [`TrainError::Io`] or [`TrainError::Write`] when a file cannot be written.
    pub fn evaluation(&mut self, record: &EvaluationRecord) -> Result<(), TrainError> {
        self.line(record)?;
        self.metrics.evaluation(record)
    }
}

/// The content of a file, or an empty text where the file does not exist.
fn read(path: &Path) -> Result<String, TrainError> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(TrainError::io(path)),
    }
}

/// Whether a line of the log is kept on resume: its step is at most `step`, and if it is an evaluation, its epoch is at
/// most `evaluated`.
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
        RunLog::open(&run, 2, 1).unwrap().line(&json!({"step": 9})).unwrap();
        let text = std::fs::read_to_string(run.log()).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2,\"event\":\"epoch\"}\n{\"step\":9}\n");
    }
}
