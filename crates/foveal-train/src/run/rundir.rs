//! The folder of a run: `config.toml`, `log.jsonl`, `metrics.csv`, `checkpoints/`, `state/`, and where they apply the
//! event file, `weights.json`, `skipped.json` and `blackbox/`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foveal_base::{is_temporary, sweep, write_atomically};

use super::lock;
use crate::config::RunConfig;
use crate::error::TrainError;

/// Files that a run writes before its first training state.
const EARLY_FILES: [&str; 7] =
    ["config.toml", "weights.json", "skipped.json", "log.jsonl", "metrics.csv", EVENTS, "environment.json"];
/// The file that TensorBoard reads. It finds event files by `tfevents` in their names.
const EVENTS: &str = "events.out.tfevents.foveal";
/// The name of the results file with the detections of the last evaluation on the validation set.
pub const DETECTIONS: &str = "val-detections.json";
/// Folder of the checkpoints.
const CHECKPOINTS: &str = "checkpoints";
/// Folder of the training states and of the lock.
const STATE: &str = "state";
/// File of the lock, which exists for as long as the run folder.
const LOCK: &str = "lock";

/// The folder of a training run, with the paths of the files in it, locked against other processes. The lock is
/// released when the last clone of the value is dropped, and by the system when the process dies.
#[derive(Clone, Debug)]
pub struct RunDir {
    root: PathBuf,
    /// Keeps the lock.
    _lock: Arc<File>,
}

impl RunDir {
    /// Creates the folder of a new run at `root`, with its parents, and locks it. An empty folder may exist already,
    /// and also the folder of a run that was killed before it saved its first training state, whose files are removed.
    ///
    /// # Errors
    /// [`TrainError::RunExists`] when the folder has other files, [`TrainError::InUse`] when another process trains in
    /// it, [`TrainError::Io`] when it cannot be created.
    pub fn create(root: &Path) -> Result<Self, TrainError> {
        let exists = || TrainError::RunExists { path: root.to_owned() };
        match std::fs::read_dir(root) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(TrainError::io(root)(e)),
            _ => {}
        }
        if !is_unused(root) {
            return Err(exists());
        }
        let run = Self::lock(root)?;
        // Another process could have trained between the check and the lock.
        if !is_unused(root) {
            return Err(exists());
        }
        for file in EARLY_FILES {
            remove_file(&root.join(file))?;
        }
        Ok(run)
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
                Ok(()) => return Self::lock(&root),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(TrainError::io(&root)(e)),
            }
        }
        unreachable!("a number is free")
    }

    /// Opens the folder of an earlier run at `root` to resume it, locks it, and removes the temporary files of a killed
    /// process. The folder of a run that was killed before it saved its first training state is opened as one of a new
    /// run ([`RunDir::has_state`] is then false).
    ///
    /// # Errors
    /// [`TrainError::NoState`] when the folder is not that of a run, [`TrainError::InUse`] when another process trains
    /// in it, [`TrainError::Io`] when a file cannot be accessed.
    pub fn resume(root: &Path) -> Result<Self, TrainError> {
        if has_state(root) {
            return Self::lock(root);
        }
        if root.join(STATE).join(LOCK).is_file() && is_unused(root) {
            return Self::create(root);
        }
        Err(TrainError::NoState { path: root.to_owned(), state: root.join(STATE).join("last.safetensors") })
    }

    /// The folder `parent/<name>-<n>` with the largest `n` that has a training state, and the number of such folders;
    /// `None` where there is none.
    pub fn latest(parent: &Path, name: &str) -> Option<(PathBuf, usize)> {
        let number =
            |path: &Path| path.file_name()?.to_str()?.strip_prefix(name)?.strip_prefix('-')?.parse::<u64>().ok();
        let runs = std::fs::read_dir(parent).ok()?.filter_map(|e| Some(e.ok()?.path()));
        let runs: BTreeSet<(u64, PathBuf)> =
            runs.filter(|p| has_state(p)).filter_map(|p| Some((number(&p)?, p))).collect();
        let count = runs.len();
        runs.into_iter().next_back().map(|(_, path)| (path, count))
    }

    /// Creates the subfolders, takes the lock, and removes temporary files.
    fn lock(root: &Path) -> Result<Self, TrainError> {
        for folder in [root.join(CHECKPOINTS), root.join(STATE)] {
            std::fs::create_dir_all(&folder).map_err(TrainError::io(&folder))?;
        }
        let lock = lock::take(root, &root.join(STATE).join(LOCK))?;
        let run = Self { root: root.to_owned(), _lock: Arc::new(lock) };
        for folder in [root.to_owned(), root.join(CHECKPOINTS), root.join(STATE)] {
            sweep(&folder)?;
        }
        remove_folder(&run.unfinished_black_box())?;
        Ok(run)
    }

    /// Removes the folder if the run has written nothing to it: neither a log, nor a checkpoint, nor a training state.
    /// Other folders are kept.
    pub fn remove_unused(self) {
        if !is_unused(&self.root) || EARLY_FILES.iter().any(|file| self.root.join(file).exists()) {
            return;
        }
        // If something cannot be removed, the folder is kept, and a later run can take it.
        let _ = std::fs::remove_file(self.root.join(STATE).join(LOCK));
        for folder in [CHECKPOINTS, STATE, ""] {
            let _ = std::fs::remove_dir(self.root.join(folder));
        }
    }

    /// Whether the folder has a training state, so that the run can be resumed.
    pub fn has_state(&self) -> bool {
        has_state(&self.root)
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

    /// Path of `checkpoints/last.safetensors`: the checkpoint of the last finished epoch, written after every
    /// epoch.
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

    /// Removes the checkpoint `checkpoints/best.safetensors` if it exists.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the file exists and cannot be removed.
    pub(crate) fn remove_best(&self) -> Result<(), TrainError> {
        remove_file(&self.best())
    }

    /// Removes the checkpoint `checkpoints/epoch-<epoch>.safetensors` if it exists.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the file exists and cannot be removed.
    pub fn remove_epoch(&self, epoch: usize) -> Result<(), TrainError> {
        remove_file(&self.epoch(epoch))
    }

    /// Path of `state/last.safetensors`: the newest training state, from which a run resumes.
    pub fn state(&self) -> PathBuf {
        self.root.join(STATE).join("last.safetensors")
    }

    /// Path of `state/previous.safetensors`: the training state before the newest one, from which a run resumes if the
    /// newest one is damaged.
    pub fn previous_state(&self) -> PathBuf {
        self.root.join(STATE).join("previous.safetensors")
    }

    /// Renames the newest training state, if there is one, to that of [`RunDir::previous_state`], before a new one is
    /// written.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the file cannot be renamed.
    pub(crate) fn keep_previous_state(&self) -> Result<(), TrainError> {
        let path = self.state();
        match std::fs::rename(&path, self.previous_state()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(&path)(e)),
            _ => Ok(()),
        }
    }

    /// Path of `state/evaluated.json`: the last evaluated epoch, and the best evaluation so far.
    pub fn evaluated(&self) -> PathBuf {
        self.root.join(STATE).join("evaluated.json")
    }

    /// Path of `val-detections.json`: the detections of the last evaluation, as a COCO results file.
    pub fn detections(&self) -> PathBuf {
        self.root.join(DETECTIONS)
    }

    /// Path of `blackbox/`: the batch, the weights and the statistics of the newest step whose loss or gradient norm
    /// was not finite.
    pub fn black_box(&self) -> PathBuf {
        self.root.join("blackbox")
    }

    /// Path of `blackbox-previous/`: the black box before the newest one.
    pub fn previous_black_box(&self) -> PathBuf {
        self.root.join("blackbox-previous")
    }

    /// Path of the folder in which a black box is written before it is renamed.
    pub(crate) fn unfinished_black_box(&self) -> PathBuf {
        self.root.join(".blackbox.foveal-tmp")
    }

    /// Path of `weights.json`: which tensors were loaded from `model.weights`, newly initialised, or left unused.
    pub fn weights(&self) -> PathBuf {
        self.root.join("weights.json")
    }

    /// Path of `skipped.json`: images and boxes that were left out of the data sets, with the reasons.
    pub fn skipped(&self) -> PathBuf {
        self.root.join("skipped.json")
    }

    /// Path of the event file, which TensorBoard reads.
    pub fn events(&self) -> PathBuf {
        self.root.join(EVENTS)
    }

    /// Writes the configuration with all defaults filled in to `config.toml`. If the file has another content already,
    /// it is kept as `config-<n>.toml`, with the smallest `n` from 1 that is free, and its path is returned.
    ///
    /// # Errors
    /// [`TrainError::Write`] when the file cannot be written, [`TrainError::Io`] when the old one cannot be read or
    /// kept.
    pub fn write_config(&self, config: &RunConfig) -> Result<Option<PathBuf>, TrainError> {
        let text = toml::to_string(config).expect("a configuration is TOML");
        let path = self.config();
        let kept = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(TrainError::io(&path)(e)),
            Ok(old) if old == text.as_bytes() => return Ok(None),
            Ok(old) => {
                let mut names = (1..).map(|n| self.root.join(format!("config-{n}.toml")));
                let kept = names.find(|name| !name.exists()).expect("a number is free");
                write_atomically(&kept, &old)?;
                Some(kept)
            }
        };
        write_atomically(&path, text.as_bytes())?;
        Ok(kept)
    }
}

fn has_state(root: &Path) -> bool {
    ["last.safetensors", "previous.safetensors"].iter().any(|state| root.join(STATE).join(state).is_file())
}

/// Whether the folder `root` can be taken for a new run: it does not exist, is empty, or was made by a run that was
/// killed before it saved its first training state. Such a run leaves its lock and no file other than [`EARLY_FILES`]
/// and temporary files.
fn is_unused(root: &Path) -> bool {
    let names = |folder: &Path| -> Option<Vec<String>> {
        let entries = match std::fs::read_dir(folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Some(Vec::new()),
            other => other.ok()?,
        };
        entries.map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    };
    let only = |folder: &Path, known: &[&str]| {
        names(folder)
            .is_some_and(|found| found.iter().all(|n| known.contains(&n.as_str()) || is_temporary(OsStr::new(n))))
    };
    let Some(found) = names(root) else { return false };
    let is_run = root.join(STATE).join(LOCK).is_file();
    found.is_empty()
        || is_run
            && only(&root.join(CHECKPOINTS), &[])
            && only(&root.join(STATE), &[LOCK])
            && only(root, &[&EARLY_FILES[..], &[CHECKPOINTS, STATE]].concat())
}

fn remove_file(path: &Path) -> Result<(), TrainError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(path)(e)),
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it, if it exists.
///
/// # Errors
/// [`TrainError::Io`] when it exists and cannot be removed.
pub(crate) fn remove_folder(folder: &Path) -> Result<(), TrainError> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(folder)(e)),
        _ => Ok(()),
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
        assert!(matches!(RunDir::create(first.root()), Err(TrainError::InUse { .. })));
        std::fs::write(first.state(), b"x").unwrap();
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
        let other = dir.path().join("b");
        std::fs::create_dir(&other).unwrap();
        assert!(matches!(RunDir::resume(&other), Err(TrainError::NoState { .. })));
        std::fs::write(other.join("photo.png"), b"x").unwrap();
        assert!(matches!(RunDir::resume(&other), Err(TrainError::NoState { .. })));
        for n in [2, 10] {
            std::fs::write(dir.path().join(format!("a-{n}/state/last.safetensors")), b"x").unwrap();
        }
        assert_eq!(RunDir::latest(dir.path(), "a"), Some((dir.path().join("a-10"), 2)));
        assert!(RunDir::resume(&dir.path().join("a-2")).unwrap().has_state());
    }

    #[test]
    fn a_run_killed_before_its_first_state_can_be_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("r");
        drop(RunDir::create(&root).unwrap());
        std::fs::write(root.join("config.toml"), b"half").unwrap();
        std::fs::write(root.join("weights.json"), b"{}").unwrap();
        for take in [RunDir::create, RunDir::resume] {
            let run = take(&root).unwrap();
            assert!(!run.has_state() && !root.join("config.toml").exists());
            std::fs::write(root.join("log.jsonl"), b"x").unwrap();
        }
        // A file that no run makes is not removed.
        std::fs::write(root.join("notes.txt"), b"mine").unwrap();
        assert!(matches!(RunDir::create(&root), Err(TrainError::RunExists { .. })));
        assert!(matches!(RunDir::resume(&root), Err(TrainError::NoState { .. })));
        assert!(root.join("log.jsonl").exists());
    }

    #[test]
    fn a_folder_in_use_is_refused_and_an_unused_one_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("r");
        let run = RunDir::create(&root).unwrap();
        assert!(matches!(RunDir::create(&root), Err(TrainError::InUse { .. })));
        std::fs::write(run.state(), b"x").unwrap();
        assert!(matches!(RunDir::resume(&root), Err(TrainError::InUse { .. })));
        std::fs::remove_file(run.state()).unwrap();
        run.remove_unused();
        assert!(!root.exists());
    }

    #[test]
    fn an_earlier_configuration_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("r")).unwrap();
        let mut config = RunConfig::default();
        assert_eq!(run.write_config(&config).unwrap(), None);
        let first = std::fs::read(run.config()).unwrap();
        assert_eq!(run.write_config(&config).unwrap(), None);
        for n in 1..3 {
            config.train.epochs += 1;
            assert_eq!(run.write_config(&config).unwrap(), Some(run.root().join(format!("config-{n}.toml"))));
        }
        assert_eq!(std::fs::read(run.root().join("config-1.toml")).unwrap(), first);
    }
}
