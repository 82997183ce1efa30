//! The training state of the last finished epoch: all that an exact continuation needs, in one safetensors file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use foveal_criterion::SmoothedPositives;
use foveal_detector::ModelConfig;
use foveal_weights::{HostTensor, TensorMap, tensors_from_safetensors};
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use super::write_atomically;
use crate::error::TrainError;

/// The version of the state file; others are refused.
const FORMAT: u32 = 1;
/// The metadata key.
const KEY: &str = "foveal_state";

/// The numbers of a state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateMeta {
    /// Version of the file.
    pub format: u32,
    /// Finished epochs.
    pub epoch: usize,
    /// Optimizer steps made.
    pub step: u64,
    /// `train.seed` of the run: order and augmentation follow from it and the epoch.
    pub seed: u64,
    /// Updates of the optimizer.
    pub optimizer_updates: u64,
    /// Updates of the moving average.
    pub ema_updates: u64,
    /// The average of an update's positives (`loss.normalizer = "ema"`).
    #[serde(default = "fresh_average")]
    pub positives_average: f64,
    /// The network, with the norms that its weight file left trained.
    pub model: ModelConfig,
    /// Tensors that the weight file did not give; a state from before this was noted has none.
    #[serde(default)]
    pub new_tensors: Option<Vec<String>>,
}

fn fresh_average() -> f64 {
    SmoothedPositives::default().0
}

/// The best evaluation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Finished epochs at that time.
    pub epoch: usize,
    /// COCO AP, a fraction.
    pub ap: f64,
}

/// What is known of the evaluations, in a file of its own: it changes after the state of the epoch is safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Finished epochs at the last evaluation; 0 before the first.
    pub epoch: usize,
    /// The best so far.
    pub best: Option<Best>,
}

impl Evaluated {
    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let json = serde_json::to_string(self).expect("plain data is JSON");
        write_atomically(path, json.as_bytes())
    }

    /// Reads it; a run without any evaluation has no such file.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(TrainError::io(path)(e)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| TrainError::State { path: path.to_owned(), found: format!("unreadable ({e})") }),
        }
    }
}

/// A training state on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    /// Its numbers.
    pub meta: StateMeta,
    /// The weights that the optimizer updates, with the statistics of norms.
    pub weights: TensorMap,
    /// Their moving average; empty where it is off.
    pub ema: TensorMap,
    /// The optimizer's first moments.
    pub first: TensorMap,
    /// The optimizer's second moments; empty under SGD.
    pub second: TensorMap,
}

impl StateMeta {
    /// The state before the first step.
    pub fn start(seed: u64, model: ModelConfig, new_tensors: Vec<String>) -> Self {
        Self {
            format: FORMAT,
            epoch: 0,
            step: 0,
            seed,
            optimizer_updates: 0,
            ema_updates: 0,
            positives_average: fresh_average(),
            model,
            new_tensors: Some(new_tensors),
        }
    }
}

struct Bytes<'a>(&'a HostTensor);

impl View for Bytes<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.0.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
    }
    fn data_len(&self) -> usize {
        size_of_val(self.0.values.as_slice())
    }
}

impl TrainState {
    fn parts(&self) -> [(&'static str, &TensorMap); 4] {
        [("weights/", &self.weights), ("ema/", &self.ema), ("first/", &self.first), ("second/", &self.second)]
    }

    /// Writes the state: to a temporary name, synced, renamed.
    ///
    /// # Errors
    /// When the file cannot be written; the state of the epoch before is then untouched.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let json = serde_json::to_string(&self.meta).expect("plain data is JSON");
        let views = self.parts().into_iter().flat_map(|(prefix, tensors)| {
            tensors.iter().map(move |(name, tensor)| (format!("{prefix}{name}"), Bytes(tensor)))
        });
        let file = safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), json)])))
            .expect("names are unique and sizes right");
        write_atomically(path, &file)
    }

    /// Reads a state.
    ///
    /// # Errors
    /// When the file is missing, damaged or of another version.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let bytes = std::fs::read(path).map_err(TrainError::io(path))?;
        let bad = |found: String| TrainError::State { path: path.to_owned(), found };
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| bad(format!("expected a training state, found no whole safetensors file ({e})")))?;
        let json = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let json = json.ok_or_else(|| bad("expected a training state, found other tensors".into()))?;
        let meta: StateMeta =
            serde_json::from_str(json).map_err(|e| bad(format!("unreadable numbers in a training state ({e})")))?;
        if meta.format != FORMAT {
            return Err(bad(format!("a training state of format {}; this version reads {FORMAT}", meta.format)));
        }
        let tensors = tensors_from_safetensors(path, &bytes).map_err(foveal_detector::DetectorError::from)?;
        let mut state = Self {
            meta,
            weights: TensorMap::new(),
            ema: TensorMap::new(),
            first: TensorMap::new(),
            second: TensorMap::new(),
        };
        for (name, tensor) in tensors {
            let Some((part, path)) = name.split_once('/') else {
                return Err(bad(format!("a tensor that belongs to no part: {name}")));
            };
            let map = match part {
                "weights" => &mut state.weights,
                "ema" => &mut state.ema,
                "first" => &mut state.first,
                "second" => &mut state.second,
                _ => return Err(bad(format!("a tensor that belongs to no part: {name}"))),
            };
            map.insert(path.to_owned(), tensor);
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> TrainState {
        let tensor = |v: f32| HostTensor { shape: vec![2, 1], values: vec![v, f32::MIN_POSITIVE / 2.0] };
        let map = |v| TensorMap::from([("a.b".to_owned(), tensor(v)), ("c".to_owned(), tensor(-v))]);
        TrainState {
            meta: StateMeta::start(7, ModelConfig::default(), vec!["a.b".to_owned()]),
            weights: map(1.0),
            ema: map(2.0),
            first: map(3.0),
            second: TensorMap::new(),
        }
    }

    #[test]
    fn a_state_comes_back_bit_by_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.safetensors");
        state().save(&path).unwrap();
        assert_eq!(TrainState::load(&path).unwrap(), state());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_state_without_the_fields_that_came_later_stays_readable() {
        let mut json = serde_json::to_value(state().meta).unwrap();
        json.as_object_mut().unwrap().remove("new_tensors").unwrap();
        let meta: StateMeta = serde_json::from_value(json).unwrap();
        assert_eq!(meta, StateMeta { new_tensors: None, ..state().meta });
    }

    #[test]
    fn evaluations_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.json");
        assert_eq!(Evaluated::load(&path).unwrap(), Evaluated::default());
        let known = Evaluated { epoch: 3, best: Some(Best { epoch: 2, ap: 0.1 + 0.2 }) };
        known.save(&path).unwrap();
        assert_eq!(Evaluated::load(&path).unwrap(), known);
    }

    #[test]
    fn damaged_and_foreign_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.safetensors");
        assert!(matches!(TrainState::load(&path), Err(TrainError::Io { .. })));
        state().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let error = TrainState::load(&path).unwrap_err().to_string();
        assert!(error.contains("s.safetensors"), "{error}");
    }
}
