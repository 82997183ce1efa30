//! The record of the evaluations of a run: `state/evaluated.json`.

use std::path::Path;

use foveal_base::{excerpt, text::read_data, write_atomically};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::BestBy;
use crate::error::TrainError;

/// The best evaluation of a run by `train.best_by`: the one with the highest AP unless that is set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Number of the epoch after which it was made, counted from 1.
    pub epoch: usize,
    /// COCO AP (IoU 0.50 to 0.95), from 0 to 1, or -1 if it is undefined.
    pub ap: f64,
    /// The value by which evaluations are compared, if that is not the AP; higher is better, and a loss has its sign
    /// changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
}

impl Best {
    /// An evaluation after `epoch` epochs with the AP `ap`, whose value by `by` is `value`.
    pub(crate) fn new(by: &BestBy, epoch: usize, ap: f64, value: f64) -> Self {
        Self { epoch, ap, value: (*by != BestBy::Ap).then_some(value) }
    }

    /// The value by which evaluations are compared; higher is better.
    pub(crate) fn compared(&self) -> f64 {
        self.value.unwrap_or(self.ap)
    }
}

/// How long a run has waited for a gain (`train.patience`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// The value of `train.best_by` of the last evaluation that was a gain; higher is better, and a loss has its sign
    /// changed. `None` before the first evaluation with a defined value.
    pub reference: Option<f64>,
    /// Number of evaluations since then.
    pub evaluations: usize,
}

impl Waiting {
    /// Counts an evaluation with the value `value`, which is `None` if it is undefined. It is a gain if it is better
    /// than the reference by more than `min_gain`.
    pub(crate) fn count(&mut self, value: Option<f64>, min_gain: f64) {
        match value {
            Some(value) if self.reference.is_none_or(|reference| value > reference + min_gain) => {
                *self = Self { reference: Some(value), evaluations: 0 };
            }
            _ => self.evaluations += 1,
        }
    }
}

/// The progress of evaluations: the content of `state/evaluated.json`. It is separate from
/// [`TrainState`](super::TrainState), because an epoch is evaluated after its state was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Number of the last evaluated epoch, counted from 1; 0 before the first evaluation.
    pub epoch: usize,
    /// The best evaluation so far; `None` before the first one whose value is defined.
    pub best: Option<Best>,
    /// Whether `best` was made inside an epoch that `train.max_steps` ended. A resumed run, which goes on with that
    /// epoch, drops it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    /// How long the run has waited for a gain; `None` without `train.patience`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
}

/// The content of `state/evaluated.json`.
#[derive(Serialize, Deserialize)]
struct EvaluatedFile {
    #[serde(flatten)]
    evaluated: Evaluated,
    /// SHA-256 of the JSON of `evaluated`; files of earlier versions have none.
    checksum: Option<String>,
}

impl Evaluated {
    /// Writes the file at `path` as JSON. It never leaves a half-written file.
    ///
    /// # Errors
    /// [`TrainError::Write`] when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let file = EvaluatedFile { evaluated: *self, checksum: Some(self.checksum()) };
        let json = serde_json::to_string(&file).expect("plain data is JSON");
        Ok(write_atomically(path, json.as_bytes())?)
    }

    /// Reads the file at `path`. Where it does not exist, no evaluation has been made, and the default is returned.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the file cannot be read, [`TrainError::State`] when it is damaged.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let bytes = match read_data(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(TrainError::io(path))?,
        };
        let bad = |found: String| TrainError::State { path: path.to_owned(), found };
        let other = |e: serde_json::Error| {
            bad(format!("expected the epoch and the best evaluation as JSON, found something else ({})", excerpt(e)))
        };
        let value: Value = serde_json::from_slice(&bytes).map_err(other)?;
        let known = |key: &String| ["epoch", "best", "provisional", "waiting", "checksum"].contains(&key.as_str());
        let file: EvaluatedFile = match value.as_object() {
            Some(fields) if fields.keys().all(known) => serde_json::from_value(value).map_err(other)?,
            _ => return Err(bad("expected the epoch and the best evaluation as JSON, found other fields".into())),
        };
        if file.checksum.is_some_and(|found| found != file.evaluated.checksum()) {
            return Err(bad("the content does not match its checksum: the file is damaged or was edited".into()));
        }
        // Earlier versions took an undefined AP, which COCO writes as -1, for the best one.
        let best = file.evaluated.best.filter(|best| best.value.is_some() || best.ap >= 0.0);
        Ok(Self { best, ..file.evaluated })
    }

    fn checksum(&self) -> String {
        let json = serde_json::to_string(self).expect("plain data is JSON");
        format!("{:x}", Sha256::digest(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.json");
        assert_eq!(Evaluated::load(&path).unwrap(), Evaluated::default());
        let best = Best { epoch: 2, ap: 0.1 + 0.2, value: None };
        let known = Evaluated { epoch: 3, best: Some(best), ..Evaluated::default() };
        known.save(&path).unwrap();
        assert_eq!(Evaluated::load(&path).unwrap(), known);
        let bytes = std::fs::read(&path).unwrap();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            let text = String::from_utf8_lossy(&flipped).into_owned();
            assert!(!Evaluated::load(&path).is_ok_and(|found| found != known), "bit {bit}: {text}");
        }
        // Files of earlier versions have no checksum.
        std::fs::write(&path, r#"{"epoch":3,"best":{"epoch":2,"ap":0.30000000000000004}}"#).unwrap();
        assert_eq!(Evaluated::load(&path).unwrap(), known);
        Evaluated { best: Some(Best { ap: -1.0, ..best }), ..known }.save(&path).unwrap();
        assert_eq!(Evaluated::load(&path).unwrap(), Evaluated { best: None, ..known });
        // A loss is compared, with its sign changed, where the AP is undefined.
        let best = Some(Best { epoch: 2, ap: -1.0, value: Some(-1.5) });
        let waiting = Some(Waiting { reference: Some(-1.5), evaluations: 2 });
        let known = Evaluated { best, waiting, ..known };
        known.save(&path).unwrap();
        assert_eq!(Evaluated::load(&path).unwrap(), known);
    }

    #[test]
    fn a_gain_must_exceed_the_smallest_one_and_undefined_values_are_none() {
        let mut waiting = Waiting::default();
        let mut count = |value| {
            waiting.count(value, 0.125);
            (waiting.reference, waiting.evaluations)
        };
        assert_eq!(count(None), (None, 1));
        assert_eq!(count(Some(0.25)), (Some(0.25), 0));
        // Exactly the smallest gain is none, and small gains do not add up unless they exceed it together.
        assert_eq!(count(Some(0.375)), (Some(0.25), 1));
        assert_eq!(count(None), (Some(0.25), 2));
        assert_eq!(count(Some(0.5)), (Some(0.5), 0));
    }
}
