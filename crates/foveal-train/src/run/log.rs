//! The log files of a run: `log.jsonl`, `metrics.csv` and the event file.
//!
//! A log that cannot be written or read is reported, but never ends a run or prevents a resume.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::RunDir;
use super::appended::AppendedFile;
use super::events::{self, EventFile, Histogram, Kept, Picture};
use super::metrics::MetricsFile;
use super::records::{EpochRecord, EvaluationRecord, StepLine};

/// The log files of a run, open for appending: `log.jsonl`, one JSON object per line; `metrics.csv`, one row an epoch;
/// and the event file, which TensorBoard reads.
#[derive(Debug)]
pub struct RunLog {
    log: AppendedFile,
    metrics: MetricsFile,
    /// The event file; `None` if the run writes none (`train.tensorboard`).
    events: Option<EventFile>,
    /// Errors that [`RunLog::warnings`] has not returned yet.
    warnings: Vec<String>,
    /// Whether the last write failed, so that an error that lasts is reported once.
    failing: bool,
}

/// The place in a run up to which its log is kept when it is resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// Number of the last optimizer step that is in a line of the log.
    pub step: u64,
    /// Number of finished epochs.
    pub epoch: usize,
    /// Number of the last evaluated epoch.
    pub evaluated: usize,
}

impl RunLog {
    /// Opens `log.jsonl`, `metrics.csv` and, if `events` is set, the event file in a run folder, and creates them where
    /// they do not exist. Entries after `end` are removed, because a resumed run repeats them, and so are lines that
    /// are not JSON.
    pub fn open(dir: &RunDir, end: LogEnd, events: bool) -> Self {
        let mut warnings = Vec::new();
        let mut warn = |path: &Path, error: io::Error| {
            warnings.push(format!("cannot read {}: {error}; it begins anew", path.display()));
            Vec::new()
        };
        let path = dir.log();
        let lines = read(&path).unwrap_or_else(|error| warn(&path, error));
        let rows = read(&dir.metrics()).unwrap_or_else(|error| warn(&dir.metrics(), error));
        let kept: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').filter(|line| is_known(line, end)).collect();
        let metrics = MetricsFile::new(dir.metrics(), &String::from_utf8_lossy(&rows), end);
        let events = events.then(|| {
            let old = read(&dir.events()).unwrap_or_else(|error| warn(&dir.events(), error));
            EventFile::new(dir.events(), &old, &kept_events(&kept, end))
        });
        let mut log = Self { log: AppendedFile::new(path, lines_of(&kept)), metrics, events, warnings, failing: false };
        log.write();
        log
    }

    /// Appends a record to `log.jsonl` as a line of JSON. A line that cannot be written is kept and written together
    /// with the next one.
    ///
    /// # Panics
    /// When the record cannot be expressed as JSON.
    pub fn line(&mut self, record: &impl Serialize) {
        let mut line = serde_json::to_string(record).expect("plain data is JSON");
        line.push('\n');
        self.log.extend(line.as_bytes());
        self.write();
    }

    /// Appends a record about steps to `log.jsonl` and adds its numbers to the event file.
    pub(crate) fn steps(&mut self, record: &StepLine) {
        if let (Some(events), Some(means)) = (&mut self.events, record.means()) {
            events.scalars(events::TRAIN, means.step, means.scalars());
        }
        self.line(record);
    }

    /// Appends an epoch's record to `log.jsonl`, writes its values to the epoch's row of `metrics.csv` and adds them to
    /// the event file.
    pub fn epoch(&mut self, record: &EpochRecord) {
        let values = self.metrics.epoch(record);
        if let Some(events) = &mut self.events {
            events.scalars(events::EPOCH, record.step, values);
        }
        self.line(record);
    }

    /// Appends an evaluation's record to `log.jsonl`, writes its losses and metrics to the epoch's row of `metrics.csv`
    /// and adds them to the event file.
    pub fn evaluation(&mut self, record: &EvaluationRecord) {
        let values = self.metrics.evaluation(record);
        if let Some(events) = &mut self.events {
            events.scalars(events::VAL, record.step, values);
        }
        self.line(record);
    }

    /// Whether the run writes an event file.
    pub(crate) fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// Adds the scores and pictures of an evaluation's detections to the event file.
    pub(crate) fn detections(&mut self, step: u64, scores: impl Iterator<Item = f64>, pictures: Vec<Picture>) {
        if let Some(events) = &mut self.events {
            if let Some(histogram) = Histogram::of_scores(scores) {
                events.histogram("scores", step, histogram);
            }
            events.pictures("detections", step, pictures);
            self.write();
        }
    }

    /// Waits until the lines of `log.jsonl` are on the disk, as far as they could be written. It is called before a
    /// training state is saved, which must not be newer than the log.
    pub fn sync(&mut self) {
        self.write();
        if let Some(file) = self.log.file() {
            // A file system without this operation has the lines in its own time.
            let _ = file.sync_data();
        }
    }

    /// Returns the errors of reading and writing since the last call, each as a sentence.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn write(&mut self) {
        let written = self.log.write().and_then(|()| self.metrics.write());
        let written = written.and_then(|()| self.events.as_mut().map_or(Ok(()), EventFile::write));
        match written {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                self.warnings
                    .push(format!("{error}; the run goes on, and the lines are written when that is possible"));
            }
            Err(_) => {}
        }
    }
}

/// The text of lines, each with its line break.
fn lines_of(lines: &[&[u8]]) -> Vec<u8> {
    lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect()
}

/// The content of a file; empty where the file does not exist, or is a pipe or a device, which would have no end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Ok(known) if !known.is_file() && !known.is_dir() => Ok(Vec::new()),
        _ => std::fs::read(path),
    }
}

/// The events that belong to the lines that are kept.
fn kept_events(lines: &[&[u8]], end: LogEnd) -> Kept {
    let mut kept = Kept { step: end.step, ..Kept::default() };
    for line in lines.iter().filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
        let steps = match line["event"].as_str() {
            Some("epoch") => &mut kept.epochs,
            Some("evaluation") => &mut kept.evaluations,
            _ => continue,
        };
        steps.extend(line["step"].as_u64());
    }
    kept
}

/// Whether a line of the log is kept on resume: a line about steps up to the step of `end`, about a finished epoch, or
/// about an evaluation up to the last one.
fn is_known(line: &[u8], end: LogEnd) -> bool {
    let Ok(line) = serde_json::from_slice::<Value>(line) else { return false };
    let number = |key: &str| line.get(key).and_then(Value::as_u64);
    let (Some(step), epoch) = (number("step"), number("epoch")) else { return false };
    let up_to = |last: usize| epoch.is_none_or(|epoch| epoch <= last as u64);
    match line.get("event").and_then(Value::as_str) {
        Some("evaluation") => up_to(end.evaluated),
        Some("epoch") => up_to(end.epoch),
        _ => step <= end.step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const END: LogEnd = LogEnd { step: 2, epoch: 1, evaluated: 1 };

    fn run() -> (tempfile::TempDir, RunDir) {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("r")).unwrap();
        (dir, run)
    }

    #[test]
    fn lines_after_the_state_are_dropped_and_torn_lines_too() {
        let (_dir, run) = run();
        let mut log = b"{\"step\":1}\n{\"step\":2,\"event\":\"epoch\",\"epoch\":1}\n{\"step\":3}\n".to_vec();
        log.extend(b"{\"step\":2,\"event\":\"epoch\",\"epoch\":2}\n\xff\xfe{\n{\"name\":\"\xc3");
        std::fs::write(run.log(), log).unwrap();
        RunLog::open(&run, END, true).line(&json!({"step": 9}));
        let text = std::fs::read_to_string(run.log()).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2,\"event\":\"epoch\",\"epoch\":1}\n{\"step\":9}\n");
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_told_once_and_written_later() {
        let (_dir, run) = run();
        std::fs::create_dir(run.log()).unwrap();
        let mut log = RunLog::open(&run, END, true);
        log.line(&json!({"step": 3}));
        let warnings = log.warnings();
        assert!(warnings.len() == 2 && warnings.iter().all(|w| w.contains("log.jsonl")), "{warnings:?}");
        log.line(&json!({"step": 4}));
        assert!(log.warnings().is_empty());
        std::fs::remove_dir(run.log()).unwrap();
        log.line(&json!({"step": 5}));
        let text = std::fs::read_to_string(run.log()).unwrap();
        assert_eq!(text, "{\"step\":3}\n{\"step\":4}\n{\"step\":5}\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_does_not_end_a_run() {
        let (_dir, run) = run();
        std::os::unix::fs::symlink("/dev/full", run.log()).unwrap();
        std::os::unix::fs::symlink("/dev/full", run.metrics()).unwrap();
        std::os::unix::fs::symlink("/dev/full", run.events()).unwrap();
        let mut log = RunLog::open(&run, LogEnd::default(), true);
        log.line(&json!({"step": 1}));
        log.line(&json!({"step": 2}));
        assert_eq!(log.warnings().len(), 1);
    }
}
