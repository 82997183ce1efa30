//! The folder of a black box: written as a whole or not at all, and read again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use foveal_base::text::{read_data, read_data_text};
use foveal_base::{excerpt, sync_folder, write_atomically};
use foveal_weights::tensors_from_safetensors;

use super::report::FORMAT;
use super::{BlackBox, Replay, Report, batch};
use crate::config::RunConfig;
use crate::error::TrainError;
use crate::run::{RunDir, remove_folder};

const REPORT: &str = "report.json";
const BATCH: &str = "batch.safetensors";
const WEIGHTS: &str = "weights.safetensors";
const CONFIG: &str = "config.toml";

impl BlackBox {
    /// Writes the folder `blackbox/` of a run. It is written under another name, synced and then renamed. A black box
    /// that is there becomes `blackbox-previous/`; an older one is removed.
    ///
    /// # Errors
    /// [`TrainError::Io`] or [`TrainError::Write`] when a file or folder cannot be written. An existing black box is
    /// then unchanged.
    pub fn save(&self, run: &RunDir) -> Result<PathBuf, TrainError> {
        let folder = run.black_box();
        let temporary = run.unfinished_black_box();
        let result = self.fill(&temporary).and_then(|()| replace(run, &temporary));
        if result.is_err() {
            // An error of the removal is ignored: the first error is the one to report.
            let _ = fs::remove_dir_all(&temporary);
        }
        result.map(|()| folder)
    }

    /// Writes all files to the new folder `temporary`.
    fn fill(&self, temporary: &Path) -> Result<(), TrainError> {
        // What a process left behind that was killed.
        remove_folder(temporary)?;
        fs::create_dir(temporary).map_err(TrainError::io(temporary))?;
        let report = serde_json::to_string_pretty(&self.report).expect("plain data is JSON");
        let config = toml::to_string(&self.config).expect("a configuration is TOML");
        write_atomically(&temporary.join(REPORT), report.as_bytes())?;
        write_atomically(&temporary.join(CONFIG), config.as_bytes())?;
        write_atomically(&temporary.join(WEIGHTS), &batch::tensors_to_bytes(&self.weights))?;
        if !self.batches.is_empty() {
            write_atomically(&temporary.join(BATCH), &batch::to_bytes(&self.batches))?;
        }
        Ok(())
    }

    /// The paths of the files that [`BlackBox::load`] reads.
    pub fn files(folder: &Path) -> [PathBuf; 4] {
        [REPORT, CONFIG, WEIGHTS, BATCH].map(|file| inner(folder).join(file))
    }

    /// Reads a black box from the folder of a run or from a black box's own folder.
    ///
    /// # Errors
    /// [`TrainError::Io`] when a file cannot be read; [`TrainError::BlackBox`] when there is none, a file is damaged,
    /// or it has another version; [`TrainError::Model`] when the weights are damaged.
    pub fn load(folder: &Path) -> Result<Self, TrainError> {
        let folder = inner(folder);
        let path = folder.join(REPORT);
        let text = match read_data(&path) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(TrainError::BlackBox {
                    path: folder,
                    found: format!(
                        "expected the folder of a run with blackbox/{REPORT}, or the folder blackbox itself, found \
                         neither; a run has a black box only after a step whose loss or gradient was not finite"
                    ),
                });
            }
            other => other.map_err(TrainError::io(&path))?,
        };
        let bad = |path: &Path, found: String| TrainError::BlackBox { path: path.to_owned(), found };
        let value: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|e| bad(&path, format!("expected the report of a black box, found no JSON ({})", excerpt(e))))?;
        if value.get("format").and_then(serde_json::Value::as_u64) != Some(u64::from(FORMAT)) {
            let found = value.get("format").map_or("none".to_owned(), excerpt);
            return Err(bad(&path, format!("expected a black box of format {FORMAT}, found {found}")));
        }
        let report: Report = serde_json::from_value(value).map_err(|e| {
            bad(&path, format!("expected the report of a black box, found other content ({})", excerpt(e)))
        })?;
        let path = folder.join(CONFIG);
        let text = read_data_text(&path).map_err(TrainError::io(&path))?;
        let config = RunConfig::from_toml(&text)
            .map_err(|e| bad(&path, format!("expected the configuration of the run, found {}", excerpt(e))))?;
        config.validate()?;
        let path = folder.join(WEIGHTS);
        let bytes = read_data(&path).map_err(TrainError::io(&path))?;
        let weights = tensors_from_safetensors(&path, &bytes).map_err(foveal_detector::DetectorError::from)?;
        let mut batches = Vec::new();
        if report.missing_batch.is_none() {
            let path = folder.join(BATCH);
            let bytes = read_data(&path).map_err(TrainError::io(&path))?;
            batches = batch::from_bytes(&bytes).map_err(|found| bad(&path, found))?;
        }
        Ok(Self { report, config, weights, batches })
    }

    /// Runs forward pass, loss and backward pass of the step again on `device`, which may have autodiff or not, and
    /// finds where the values turned. `folder` is the folder that the black box was read from, for errors.
    ///
    /// # Errors
    /// [`TrainError::BlackBox`] when the batch is missing, or batch or weights do not fit the network.
    pub fn replay(&self, folder: &Path, device: &Device) -> Result<Replay, TrainError> {
        self.run(device).map_err(|found| TrainError::BlackBox { path: folder.to_owned(), found })
    }
}

/// The folder of the black box: `blackbox` in the folder of a run, else the folder itself.
fn inner(folder: &Path) -> PathBuf {
    let inner = folder.join("blackbox");
    if inner.join(REPORT).is_file() { inner } else { folder.to_owned() }
}

/// Renames `temporary` to `blackbox`, and what is there before to `blackbox-previous`.
fn replace(run: &RunDir, temporary: &Path) -> Result<(), TrainError> {
    let (folder, previous) = (run.black_box(), run.previous_black_box());
    if folder.exists() {
        remove_folder(&previous)?;
        fs::rename(&folder, &previous).map_err(TrainError::io(&folder))?;
    }
    fs::rename(temporary, &folder).map_err(TrainError::io(&folder))?;
    sync_folder(run.root()).map_err(TrainError::io(run.root()))
}
