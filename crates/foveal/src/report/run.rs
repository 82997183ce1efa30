//! The folder of a run, as far as a report needs it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use foveal_coco::{CocoDetection, read_results};
use foveal_data::{Dataset, Source};
use foveal_train::{DETECTIONS, RunConfig};

use super::environment::Environment;
use super::history::History;
use crate::config;

/// What is in the folder of a run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) root: PathBuf,
    /// Name of the folder, which distinguishes runs of one configuration.
    pub(super) name: String,
    pub(super) config: RunConfig,
    pub(super) history: History,
    pub(super) environment: Environment,
    /// The detections of the last evaluation; `None` if the run has not been evaluated, or by an earlier version.
    pub(super) detections: Option<Vec<CocoDetection>>,
}

impl Run {
    /// Reads the folder of a run.
    ///
    /// # Errors
    /// If the folder is not that of a run, or one of its files cannot be read.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let (settings, log) = (root.join("config.toml"), root.join("log.jsonl"));
        for path in [&settings, &log] {
            if !path.is_file() {
                bail!(
                    "{}: expected the folder of a run of `foveal train`, found no {} in it",
                    root.display(),
                    path.file_name().unwrap_or_default().to_string_lossy()
                );
            }
        }
        let detections = root.join(DETECTIONS);
        let name = std::path::absolute(root)?.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self {
            root: root.to_owned(),
            name: name.unwrap_or_else(|| root.display().to_string()),
            config: config::load(Some(&settings), &[])?,
            history: History::read(&log)?,
            environment: Environment::read(root)?,
            detections: if detections.is_file() { Some(read_results(&detections)?) } else { None },
        })
    }

    /// The images that the run is evaluated on.
    ///
    /// # Errors
    /// If the data set cannot be opened.
    pub(super) fn validation(&self) -> Result<Dataset> {
        let data = &self.config.data;
        Ok(match self.config.train.overfit {
            0 => data.open_val()?.dataset,
            count => data.open_train()?.dataset.subset(count),
        })
    }

    /// The annotations of the training set. Its images are not read.
    ///
    /// # Errors
    /// If the annotations cannot be read.
    pub(super) fn training(&self) -> Result<Dataset> {
        let data = &self.config.data;
        let opened = match (data.source, &data.train.annotations) {
            (Source::Coco, Some(_)) => data.inspect_train_annotations()?,
            _ => data.open_train()?,
        };
        Ok(match self.config.train.overfit {
            0 => opened.dataset,
            count => opened.dataset.subset(count),
        })
    }
}
