//! `skipped.json`: images and boxes left out by the checks before training, and images that failed to load later.

use std::collections::BTreeMap;
use std::path::PathBuf;

use foveal_base::write_atomically;
use foveal_data::Skipped;

use super::Progress;
use crate::error::TrainError;

/// Key of the list of images that passed the checks but failed to load.
const LOADING: &str = "loading";

/// Images and boxes left out so far: `training` and `validation` by the checks, `loading` by failures to load.
#[derive(Debug)]
pub(crate) struct SkipList {
    path: PathBuf,
    sets: BTreeMap<&'static str, Vec<Skipped>>,
}

impl SkipList {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, sets: BTreeMap::new() }
    }

    /// Adds the entries that are not yet in the list. If there are any, rewrites the file.
    ///
    /// # Errors
    /// [`TrainError::Write`] when the file cannot be written.
    pub(crate) fn add(&mut self, set: &'static str, skipped: &[Skipped]) -> Result<(), TrainError> {
        let known = self.sets.get(set).map_or(&[][..], Vec::as_slice);
        let new: Vec<Skipped> = skipped.iter().filter(|s| !known.contains(s)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        self.sets.entry(set).or_default().extend(new);
        let json = serde_json::to_string_pretty(&self.sets).expect("plain data is JSON");
        Ok(write_atomically(&self.path, json.as_bytes())?)
    }

    /// Adds images that passed the checks but failed to load, and reports a warning for each new one.
    ///
    /// # Errors
    /// [`TrainError::Write`] when the file cannot be written.
    pub(crate) fn add_loading(&mut self, skipped: &[Skipped], progress: &mut dyn Progress) -> Result<(), TrainError> {
        let known = self.sets.get(LOADING).map_or(&[][..], Vec::as_slice);
        for skipped in skipped.iter().filter(|s| !known.contains(s)) {
            progress.message(&format!("warning: image skipped, because it could not be loaded: {}", skipped.reason));
        }
        self.add(LOADING, skipped)
    }
}
