//! The folder of a run: `RUN/{config.toml, log.jsonl, metrics.csv, checkpoints/, state/, skipped.json}`.

use std::path::{Path, PathBuf};

use super::write_atomically;
use crate::config::RunConfig;
use crate::error::TrainError;

/// A run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// A new folder at `root`.
    ///
    /// # Errors
    /// When it exists and holds anything, or cannot be made.
    pub fn create(root: &Path) -> Result<Self, TrainError> {
        if let Ok(mut entries) = std::fs::read_dir(root)
            && entries.next().is_some()
        {
            return Err(TrainError::RunExists { path: root.to_owned() });
        }
        Self { root: root.to_owned() }.with_folders()
    }

    /// A new folder `parent/<name>-<n>` with the first free n from 1.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn next(parent: &Path, name: &str) -> Result<Self, TrainError> {
        std::fs::create_dir_all(parent).map_err(TrainError::io(parent))?;
        for n in 1.. {
            let root = parent.join(format!("{name}-{n}"));
            // Making the folder is what claims the number: two runs started at once get two.
            match std::fs::create_dir(&root) {
                Ok(()) => return Self { root }.with_folders(),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(TrainError::io(&root)(e)),
            }
        }
        unreachable!("a number is free")
    }

    /// The folder of an earlier run that left a training state.
    ///
    /// # Errors
    /// [`TrainError::NoState`] when it did not.
    pub fn resume(root: &Path) -> Result<Self, TrainError> {
        let dir = Self { root: root.to_owned() };
        match dir.state().is_file() {
            true => dir.with_folders(),
            false => Err(TrainError::NoState { path: root.to_owned(), state: dir.state() }),
        }
    }

    /// The latest of `parent/<name>-<n>` that left a training state.
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

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// One JSON object a line: steps, epochs, evaluations.
    pub fn log(&self) -> PathBuf {
        self.root.join("log.jsonl")
    }

    /// Losses and metrics, a row for each epoch.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.csv")
    }

    /// The newest checkpoint.
    pub fn last(&self) -> PathBuf {
        self.root.join("checkpoints/last.safetensors")
    }

    /// The checkpoint of the highest AP.
    pub fn best(&self) -> PathBuf {
        self.root.join("checkpoints/best.safetensors")
    }

    /// The checkpoint kept of an epoch (`train.keep`).
    pub fn epoch(&self, epoch: usize) -> PathBuf {
        self.root.join(format!("checkpoints/epoch-{epoch}.safetensors"))
    }

    /// Removes the checkpoint kept of an epoch, if there is one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget_epoch(&self, epoch: usize) -> Result<(), TrainError> {
        let path = self.epoch(epoch);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(&path)(e)),
            _ => Ok(()),
        }
    }

    /// The training state of the last finished epoch.
    pub fn state(&self) -> PathBuf {
        self.root.join("state/last.safetensors")
    }

    /// Which epoch was last evaluated, and the best.
    pub fn evaluated(&self) -> PathBuf {
        self.root.join("state/evaluated.json")
    }

    /// What became of each tensor of `model.weights`.
    pub fn weights(&self) -> PathBuf {
        self.root.join("weights.json")
    }

    /// Images and boxes that were left out.
    pub fn skipped(&self) -> PathBuf {
        self.root.join("skipped.json")
    }

    /// Writes the resolved configuration.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_config(&self, config: &RunConfig) -> Result<(), TrainError> {
        let text = toml::to_string(config).expect("a configuration is TOML");
        write_atomically(&self.config(), text.as_bytes())
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
