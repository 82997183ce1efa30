//! The folder of a run: `config.toml`, `log.jsonl`, `metrics.csv`, `checkpoints/`, `state/`, and where they apply
//! `weights.json`, `skipped.json` and `blackbox/`.

use std::path::{Path, PathBuf};

use foveal_base::write_atomically;

use crate::config::RunConfig;
use crate::error::TrainError;

/// The folder of a training run, with the paths of the files in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// Creates the folder of a new run at `root`, with its parents. An empty folder may exist already.
    ///
    /// # Errors
    /// [`TrainError::RunExists`] when the folder is not empty, [`TrainError::Io`] when it cannot be created.
    pub fn create(root: &Path) -> Result<Self, TrainError> {
        if let Ok(mut entries) = std::fs::read_dir(root)
            && entries.next().is_some()
        {
            return Err(TrainError::RunExists { path: root.to_owned() });
        }
        Self { root: root.to_owned() }.with_folders()
    }

    /// Creates the folder of a new run at `parent/<name>-<n>`, with the smallest `n` from 1 for which no folder exists.
    /// Runs that start at the same time get different folders.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the folder cannot be created.
    pub fn next(parent: &Path, name: &str) -> Result<Self, TrainError> {
        std::fs::create_dir_all(parent).map_err(TrainError::io(parent))?;
        for n in 1.. {
            let root = parent.join(format!("{name}-{n}"));
            // Creating the folder reserves the number, so that two runs started at once get different numbers.
            match std::fs::create_dir(&root) {
                Ok(()) => return Self { root }.with_folders(),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(TrainError::io(&root)(e)),
            }
        }
        unreachable!("a number is free")
    }

    /// Opens the folder of an earlier run at `root` to resume it.
    ///
    /// # Errors
    /// [`TrainError::NoState`] when the folder has no training state, [`TrainError::Io`] when a missing subfolder
    /// cannot be created.
    pub fn resume(root: &Path) -> Result<Self, TrainError> {
        let dir = Self { root: root.to_owned() };
        match dir.state().is_file() {
            true => dir.with_folders(),
            false => Err(TrainError::NoState { path: root.to_owned(), state: dir.state() }),
        }
    }

    /// The folder `parent/<name>-<n>` with the largest `n` that has a training state, or `None` where there is no such
    /// folder.
    pub fn latest(parent: &Path, name: &str) -> Option<PathBuf> {
        let number =
            |path: &Path| path.file_name()?.to_str()?.strip_prefix(name)?.strip_prefix('-')?.parse::<u64>().ok();
        let runs = std::fs::read_dir(parent).ok()?.filter_map(|e| Some(e.ok()?.path()));
        runs.filter(|p| Self { root: p.clone() }.state().is_file())
            .filter_map(|p| Some((number(&p)?, p)))
            .max()
            .map(|r| r.1)
    }

    fn with_folders(self) -> Result<Self, TrainError> {
        for folder in [self.root.join("checkpoints"), self.root.join("state")] {
            std::fs::create_dir_all(&folder).map_err(TrainError::io(&folder))?;
        }
        Ok(self)
    }

    /// Path of the run folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Path of `config.toml`: the configuration of the run with all defaults filled in.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Path of `log.jsonl`: records of steps, epochs and evaluations, one JSON object per line.
    pub fn log(&self) -> PathBuf {
        self.root.join("log.jsonl")
    }

    /// Path of `metrics.csv`: losses, COCO metrics and learning rate, one row per epoch.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.csv")
    }

    /// Path of `checkpoints/last.safetensors`: the checkpoint of the last finished epoch, written after every epoch.
    pub fn last(&self) -> PathBuf {
        self.root.join("checkpoints/last.safetensors")
    }

    /// Path of `checkpoints/best.safetensors`: the checkpoint with the highest AP of all evaluations so far. It exists
    /// only after the first evaluation.
    pub fn best(&self) -> PathBuf {
        self.root.join("checkpoints/best.safetensors")
    }

    /// Path of `checkpoints/epoch-<epoch>.safetensors`: the checkpoint of `epoch`, counted from 1. It exists only for
    /// the last `train.keep` epochs.
    pub fn epoch(&self, epoch: usize) -> PathBuf {
        self.root.join(format!("checkpoints/epoch-{epoch}.safetensors"))
    }

    /// Removes the checkpoint `checkpoints/epoch-<epoch>.safetensors` if it exists.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the file exists and cannot be removed.
    pub fn remove_epoch(&self, epoch: usize) -> Result<(), TrainError> {
        let path = self.epoch(epoch);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(&path)(e)),
            _ => Ok(()),
        }
    }

    /// Path of `state/last.safetensors`: the training state after the last finished epoch, from which a run resumes.
    pub fn state(&self) -> PathBuf {
        self.root.join("state/last.safetensors")
    }

    /// Path of `state/evaluated.json`: the last evaluated epoch, and the best evaluation so far.
    pub fn evaluated(&self) -> PathBuf {
        self.root.join("state/evaluated.json")
    }

    /// Path of `blackbox/`: the batch, the weights and the statistics of the newest step whose loss or gradient norm was
    /// not finite.
    pub fn black_box(&self) -> PathBuf {
        self.root.join("blackbox")
    }

    /// Path of `weights.json`: which tensors were loaded from `model.weights`, newly initialised, or left unused.
    pub fn weights(&self) -> PathBuf {
        self.root.join("weights.json")
    }

    /// Path of `skipped.json`: images and boxes that were left out of the data sets, with the reasons.
    pub fn skipped(&self) -> PathBuf {
        self.root.join("skipped.json")
    }

    /// Writes the configuration with all defaults filled in to `config.toml`.
    ///
    /// # Errors
    /// [`TrainError::Write`] when the file cannot be written.
    pub fn write_config(&self, config: &RunConfig) -> Result<(), TrainError> {
        let text = toml::to_string(config).expect("a configuration is TOML");
        Ok(write_atomically(&self.config(), text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_never_lands_in_another() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunDir::next(dir.path(), "a").unwrap();
        let second = RunDir::next(dir.path(), "a").unwrap();
        assert!(first.root().ends_with("a-1") && second.root().ends_with("a-2"));
        assert!(matches!(RunDir::create(first.root()), Err(TrainError::RunExists { .. })));
        assert!(RunDir::create(&dir.path().join("new/deep")).is_ok());
    }

    #[test]
    fn only_a_run_with_a_state_resumes() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..11 {
            RunDir::next(dir.path(), "a").unwrap();
        }
        assert_eq!(RunDir::latest(dir.path(), "a"), None);
        assert!(matches!(RunDir::resume(&dir.path().join("a-1")), Err(TrainError::NoState { .. })));
        for n in [2, 10] {
            std::fs::write(dir.path().join(format!("a-{n}/state/last.safetensors")), b"x").unwrap();
        }
        assert_eq!(RunDir::latest(dir.path(), "a"), Some(dir.path().join("a-10")));
        assert!(RunDir::resume(&dir.path().join("a-2")).is_ok());
    }
}
