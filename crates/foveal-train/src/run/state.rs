//! The training state after an optimizer step: everything that an exact resume needs, in one safetensors file.

use std::path::Path;

use foveal_base::{excerpt, text::read_data, write_atomically};
use foveal_coco::CategoryInfo;
use foveal_criterion::SmoothedPositives;
use foveal_detector::ModelConfig;
use foveal_weights::{TensorMap, check_seal, seal, sealed_text, tensors_from_safetensors};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::length::TimeLimit;
use super::position::LogPosition;
use super::scaling::LossScaling;
use crate::error::TrainError;

/// Version of the state file's format that is written. Newer files are refused.
const FORMAT: u32 = 2;
/// Version without a checksum, [`Premises`] and positions inside epochs. Such files are read.
const UNSEALED: u32 = 1;
/// Largest counter of epochs, steps or updates: 2^53, which `f64` still holds exactly.
const LARGEST_COUNTER: u64 = 1 << 53;
/// Largest average number of positive anchors in a step.
const LARGEST_AVERAGE: f64 = 1e15;
/// Key of the safetensors metadata that holds [`StateMeta`] as JSON.
const KEY: &str = "foveal_state";

/// The part of a training state that is not tensors: counters, seed, and what the run was made with. The state file
/// holds it as JSON.
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
    /// Configuration of the network, with the batch norms that stay trained because their weight file has no
    /// statistics.
    pub model: ModelConfig,
    /// Names of the tensors that were not loaded from `model.weights`. `None` in files of earlier versions, which did
    /// not record them.
    #[serde(default)]
    pub new_tensors: Option<Vec<String>>,
    /// Number of batches of the epoch in progress that were used; 0 between epochs.
    #[serde(default)]
    pub batch: usize,
    /// Number of optimizer steps of the epoch in progress; 0 between epochs.
    #[serde(default)]
    pub epoch_steps: u64,
    /// Factor of the learning rate, which is lowered when a run goes back to an earlier state
    /// (`train.non_finite = "rewind"`).
    #[serde(default = "one")]
    pub lr_factor: f64,
    /// Number of optimizer steps so far whose loss or gradient was not finite.
    #[serde(default)]
    pub non_finite_steps: u64,
    /// The loss scale of the next step, and how many steps were left out; `None` unless `train.precision` is `"f16"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scaling: Option<LossScaling>,
    /// The time that the run has taken; `None` without `train.time_limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<TimeLimit>,
    /// The part of the log of the epoch in progress that is not in `log.jsonl`; `None` between epochs.
    #[serde(default)]
    pub log: Option<LogPosition>,
    /// The settings and data of the run; `None` in files of earlier versions, which did not record them.
    #[serde(default)]
    pub premises: Option<Premises>,
    /// SHA-256 of the fields before it and of the names, shapes and bytes of all tensors, as 64 hexadecimal digits. It
    /// is computed when the state is saved and checked when it is loaded; empty in files of earlier versions.
    #[serde(default)]
    pub checksum: String,
}

fn fresh_average() -> f64 {
    SmoothedPositives::default().0
}

fn one() -> f64 {
    1.0
}

/// What a run was made with. A resume compares it with what the run would go on with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Premises {
    /// The configuration of the run with all defaults filled in.
    pub config: Value,
    /// The categories of the training set, in the order of the classes.
    pub categories: Vec<CategoryInfo>,
    /// SHA-256 of the annotations of the training set that are used, as 64 hexadecimal digits. The pixels of the images
    /// are not part of it.
    pub training_set: String,
    /// SHA-256 of the annotations of the validation set that are used, as 64 hexadecimal digits.
    pub validation_set: String,
    /// Number of optimizer steps in an epoch.
    pub steps_per_epoch: usize,
    /// The device on which the run was trained.
    pub device: String,
    /// Number of threads of the CPU.
    pub threads: usize,
}

/// Everything that is needed to resume a run exactly after an optimizer step, in host memory: the content of
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
            model,
            new_tensors: Some(new_tensors),
            batch: 0,
            epoch_steps: 0,
            lr_factor: 1.0,
            non_finite_steps: 0,
            loss_scaling: None,
            time_limit: None,
            log: None,
            premises: None,
            checksum: String::new(),
        }
    }
}

impl TrainState {
    fn parts(&self) -> [(&'static str, &TensorMap); 4] {
        [("weights/", &self.weights), ("ema/", &self.ema), ("first/", &self.first), ("second/", &self.second)]
    }

    /// Writes the training state to the safetensors file `path`. The file is written under a temporary name, synced to
    /// the disk and then renamed, so that a crash leaves no partial file.
    ///
    /// # Errors
    /// [`TrainError::NonFiniteState`] when a tensor has a value that is NaN or infinite, [`TrainError::Write`] when the
    /// file cannot be written. An existing file at `path` is then unchanged.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        Ok(write_atomically(path, &self.to_bytes()?)?)
    }

    /// Returns the content of the safetensors file that [`TrainState::save`] writes.
    ///
    /// # Errors
    /// [`TrainError::NonFiniteState`] with the first tensor that has a value which is NaN or infinite.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, TrainError> {
        for (prefix, tensors) in self.parts() {
            if let Some((name, _)) = tensors.iter().find(|(_, t)| !t.values.iter().all(|v| v.is_finite())) {
                return Err(TrainError::NonFiniteState { step: self.meta.step, name: format!("{prefix}{name}") });
            }
        }
        let meta = StateMeta { format: FORMAT, checksum: String::new(), ..self.meta.clone() };
        let tensors = self.parts().into_iter().flat_map(|(prefix, tensors)| {
            tensors.iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
        });
        Ok(seal(KEY, &meta, tensors))
    }

    /// Reads a state from the safetensors file at `path`.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the file cannot be read; [`TrainError::State`] or [`TrainError::Model`] when it is
    /// damaged, is not a training state, or has a newer version.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let bytes = read_data(path).map_err(TrainError::io(path))?;
        let bad = |found: String| TrainError::State { path: path.to_owned(), found };
        let text = sealed_text(KEY, &bytes).map_err(|e| bad(format!("expected a training state, found {e}")))?;
        let text = text.ok_or_else(|| {
            bad(format!("expected a training state, found a safetensors file without the metadata {KEY}"))
        })?;
        let other = |e: serde_json::Error| {
            bad(format!(
                "expected the counters of a training state as JSON in the metadata {KEY}, found something else ({})",
                excerpt(e)
            ))
        };
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_str(&text).map_err(other)?;
        match format {
            UNSEALED => {}
            FORMAT => {
                check_seal(KEY, &text, &bytes).map_err(|e| bad(format!("expected a training state, found {e}")))?
            }
            _ => {
                return Err(bad(format!(
                    "expected a training state of format {UNSEALED} or {FORMAT}, found format {format}; resume the run \
                     with the version of foveal that wrote it"
                )));
            }
        }
        let meta: StateMeta = serde_json::from_str(&text).map_err(other)?;
        let counters = [
            meta.epoch as u64,
            meta.step,
            meta.optimizer_updates,
            meta.ema_updates,
            meta.batch as u64,
            meta.epoch_steps,
        ];
        if let Some(counter) = counters.into_iter().find(|counter| *counter > LARGEST_COUNTER) {
            return Err(bad(format!("expected counters of at most {LARGEST_COUNTER}, found {counter}")));
        }
        if !(0.0..=LARGEST_AVERAGE).contains(&meta.positives_average) {
            return Err(bad(format!(
                "expected an average number of positives from 0 to {LARGEST_AVERAGE:e}, found {}",
                meta.positives_average
            )));
        }
        meta.loss_scaling.map_or(Ok(()), |scaling| scaling.validate()).map_err(&bad)?;
        meta.time_limit.map_or(Ok(()), |limit| limit.validate()).map_err(&bad)?;
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
    use foveal_weights::HostTensor;

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
        let mut loaded = TrainState::load(&path).unwrap();
        assert_eq!(std::mem::take(&mut loaded.meta.checksum).len(), 64);
        assert_eq!(loaded, state());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_state_without_the_fields_that_came_later_stays_readable() {
        let mut json = serde_json::to_value(state().meta).unwrap();
        let fields = json.as_object_mut().unwrap();
        for later in
            ["new_tensors", "batch", "epoch_steps", "lr_factor", "non_finite_steps", "log", "premises", "checksum"]
        {
            fields.remove(later).unwrap();
        }
        let meta: StateMeta = serde_json::from_value(json).unwrap();
        assert_eq!(meta, StateMeta { new_tensors: None, ..state().meta });
    }

    #[test]
    fn a_loss_scale_comes_back_and_a_state_without_one_has_no_key_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.safetensors");
        let json = serde_json::to_value(state().meta).unwrap();
        assert!(json.get("loss_scaling").is_none());
        let mut scaled = state();
        // A scale after a step that was finite: 65536 * 2^(1/2000) in f32.
        let scaling = LossScaling { scale: 65558.71875, skipped: 3, in_a_row: 0 };
        scaled.meta.loss_scaling = Some(scaling);
        scaled.save(&path).unwrap();
        assert_eq!(TrainState::load(&path).unwrap().meta.loss_scaling, Some(scaling));
        scaled.meta.loss_scaling = Some(LossScaling { scale: -1.0, ..scaling });
        scaled.save(&path).unwrap();
        let text = TrainState::load(&path).unwrap_err().to_string();
        assert!(text.contains("s.safetensors") && text.contains("loss scale"), "{text}");
    }

    #[test]
    fn the_time_of_a_run_comes_back_and_impossible_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.safetensors");
        assert!(serde_json::to_value(state().meta).unwrap().get("time_limit").is_none());
        let mut limited = state();
        let limit = TimeLimit { minutes: 1.5, seconds: 20.25, steps: Some(170) };
        limited.meta.time_limit = Some(limit);
        limited.save(&path).unwrap();
        assert_eq!(TrainState::load(&path).unwrap().meta.time_limit, Some(limit));
        for wrong in [TimeLimit { seconds: -1.0, ..limit }, TimeLimit { steps: Some(u64::MAX), ..limit }] {
            limited.meta.time_limit = Some(wrong);
            limited.save(&path).unwrap();
            let text = TrainState::load(&path).unwrap_err().to_string();
            assert!(text.contains("s.safetensors") && text.contains("time limit"), "{text}");
        }
    }

    #[test]
    fn values_that_are_not_finite_are_not_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.safetensors");
        state().save(&path).unwrap();
        let before = std::fs::read(&path).unwrap();
        for (part, value) in [("weights/c", f32::NAN), ("ema/c", f32::INFINITY), ("first/c", f32::NEG_INFINITY)] {
            let mut broken = state();
            let tensors = match part.split_once('/').unwrap().0 {
                "weights" => &mut broken.weights,
                "ema" => &mut broken.ema,
                _ => &mut broken.first,
            };
            tensors.get_mut("c").unwrap().values[1] = value;
            let error = broken.save(&path).unwrap_err();
            assert!(matches!(&error, TrainError::NonFiniteState { name, .. } if name == part), "{error}");
            assert!(std::fs::read(&path).unwrap() == before);
        }
    }

    #[test]
    fn counters_that_no_run_reaches_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.safetensors");
        let changes: [fn(&mut StateMeta); 4] = [
            |meta| meta.epoch = usize::MAX,
            |meta| meta.step = u64::MAX,
            |meta| meta.positives_average = -1.0,
            |meta| meta.positives_average = 1e300,
        ];
        for change in changes {
            let mut state = state();
            change(&mut state.meta);
            state.save(&path).unwrap();
            let text = TrainState::load(&path).unwrap_err().to_string();
            assert!(text.contains("s.safetensors") && text.contains("expected"), "{text}");
        }
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
