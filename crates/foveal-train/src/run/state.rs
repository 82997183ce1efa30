//! The training state after the last finished epoch: everything that an exact resume needs, in one safetensors file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use foveal_base::write_atomically;
use foveal_criterion::SmoothedPositives;
use foveal_detector::ModelConfig;
use foveal_weights::{HostTensor, TensorMap, tensors_from_safetensors};
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// Version of the state file's format. Files of other versions are refused.
const FORMAT: u32 = 1;
/// Key of the safetensors metadata that holds [`StateMeta`] as JSON.
const KEY: &str = "foveal_state";

/// The part of a training state that is not tensors: counters, seed and the configuration of the network. The state
/// file holds it as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateMeta {
    /// Version of the state file's format.
    pub format: u32,
    /// Number of finished epochs.
    pub epoch: usize,
    /// Number of optimizer steps made since the start of the run.
    pub step: u64,
    /// Value of `train.seed`. The order of the images and their augmentation follow from it and the epoch.
    pub seed: u64,
    /// Number of updates that the optimizer has made, for AdamW's bias correction.
    pub optimizer_updates: u64,
    /// Number of updates that the moving average of the weights has made (`train.ema`); 0 without it.
    pub ema_updates: u64,
    /// Moving average of the number of positive anchors in an optimizer step (`loss.normalizer = "ema"`).
    #[serde(default = "fresh_average")]
    pub positives_average: f64,
    /// Steps whose loss or gradient norm was not finite, and what followed from them.
    #[serde(default)]
    pub recovered: Recovered,
    /// Configuration of the network, with the batch norms that stay trained because their weight file has no
    /// statistics.
    pub model: ModelConfig,
    /// Names of the tensors that were not loaded from `model.weights`. `None` in files of earlier versions, which did
    /// not record them.
    #[serde(default)]
    pub new_tensors: Option<Vec<String>>,
}

fn fresh_average() -> f64 {
    SmoothedPositives::default().0
}

/// The steps of a run whose loss or gradient norm was not finite and that did not end it (`train.non_finite`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovered {
    /// Number of steps that were left out or rewound from.
    pub steps: usize,
    /// Factor of the learning rate for the rest of the run: the product of `train.rewind_factor` over all rewinds.
    pub lr_factor: f64,
}

impl Default for Recovered {
    fn default() -> Self {
        Self { steps: 0, lr_factor: 1.0 }
    }
}

/// The evaluation with the highest AP of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Number of the epoch after which it was made, counted from 1.
    pub epoch: usize,
    /// COCO AP (IoU 0.50 to 0.95), from 0 to 1.
    pub ap: f64,
}

/// The progress of evaluations: the content of `state/evaluated.json`. It is separate from [`TrainState`], because an
/// epoch is evaluated after its state was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Number of the last evaluated epoch, counted from 1; 0 before the first evaluation.
    pub epoch: usize,
    /// The evaluation with the highest AP so far; `None` before the first evaluation.
    pub best: Option<Best>,
}

impl Evaluated {
    /// Writes the file at `path` as JSON. It never leaves a half-written file.
    ///
    /// # Errors
    /// [`TrainError::Write`] when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let json = serde_json::to_string(self).expect("plain data is JSON");
        Ok(write_atomically(path, json.as_bytes())?)
    }

    /// Reads the file at `path`. Where it does not exist, no evaluation has been made, and the default is returned.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the file cannot be read, [`TrainError::State`] when it is not valid JSON of this kind.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(TrainError::io(path)(e)),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| TrainError::State {
                path: path.to_owned(),
                found: format!("expected the epoch and the best evaluation as JSON, found something else ({e})"),
            }),
        }
    }
}

/// Everything that is needed to resume a run exactly after a finished epoch, in host memory: the content of
/// `state/last.safetensors`.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    /// Counters, seed and the configuration of the network.
    pub meta: StateMeta,
    /// The weights that the optimizer updates and the running statistics of batch norms, by parameter path.
    pub weights: TensorMap,
    /// Moving average of the weights, by parameter path; empty without `train.ema`.
    pub ema: TensorMap,
    /// Momentum of SGD or first moments of AdamW by parameter path, each flattened to `[elements]`.
    pub first: TensorMap,
    /// Second moments of AdamW by parameter path, each flattened to `[elements]`; empty with SGD.
    pub second: TensorMap,
}

impl StateMeta {
    /// The counters of a new run before its first step: all 0, and the moving average of the positives at its start
    /// value. `new_tensors` holds the names of the tensors that were not loaded from `model.weights`.
    pub fn start(seed: u64, model: ModelConfig, new_tensors: Vec<String>) -> Self {
        Self {
            format: FORMAT,
            epoch: 0,
            step: 0,
            seed,
            optimizer_updates: 0,
            ema_updates: 0,
            positives_average: fresh_average(),
            recovered: Recovered::default(),
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

/// The bytes of a safetensors file of tensors.
pub(crate) fn weights_file(tensors: &TensorMap) -> Vec<u8> {
    safetensors::serialize(tensors.iter().map(|(name, tensor)| (name, Bytes(tensor))), None)
        .expect("names are unique and sizes right")
}

impl TrainState {
    fn parts(&self) -> [(&'static str, &TensorMap); 4] {
        [("weights/", &self.weights), ("ema/", &self.ema), ("first/", &self.first), ("second/", &self.second)]
    }

    /// Writes the training state to the safetensors file `path`. The file is written under a temporary name, synced to
    /// the disk and then renamed, so that a crash leaves no partial file.
    ///
    /// # Errors
    /// [`TrainError::Write`] when the file cannot be written; an existing file at `path` is then unchanged.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let json = serde_json::to_string(&self.meta).expect("plain data is JSON");
        let views = self.parts().into_iter().flat_map(|(prefix, tensors)| {
            tensors.iter().map(move |(name, tensor)| (format!("{prefix}{name}"), Bytes(tensor)))
        });
        let file = safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), json)])))
            .expect("names are unique and sizes right");
        Ok(write_atomically(path, &file)?)
    }

    /// Reads a state from the safetensors file at `path`.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the file cannot be read; [`TrainError::State`] or [`TrainError::Model`] when it is
    /// damaged, is not a training state, or has another version.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let bytes = std::fs::read(path).map_err(TrainError::io(path))?;
        let bad = |found: String| TrainError::State { path: path.to_owned(), found };
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| bad(format!("expected a training state, found no complete safetensors file ({e})")))?;
        let json = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let json = json.ok_or_else(|| {
            bad(format!("expected a training state, found a safetensors file without the metadata {KEY}"))
        })?;
        let meta: StateMeta = serde_json::from_str(json).map_err(|e| {
            bad(format!(
                "expected the counters of a training state as JSON in the metadata {KEY}, found something else ({e})"
            ))
        })?;
        if meta.format != FORMAT {
            return Err(bad(format!("expected a training state of format {FORMAT}, found format {}", meta.format)));
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
                return Err(bad(format!("expected tensor names in weights/, ema/, first/ or second/, found {name}")));
            };
            let map = match part {
                "weights" => &mut state.weights,
                "ema" => &mut state.ema,
                "first" => &mut state.first,
                "second" => &mut state.second,
                _ => {
                    return Err(bad(format!(
                        "expected tensor names in weights/, ema/, first/ or second/, found {name}"
                    )));
                }
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
        json.as_object_mut().unwrap().remove("recovered").unwrap();
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
