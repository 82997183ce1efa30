//! `skipped.json`: images and boxes left out by the checks before training, and images that failed to load later.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use foveal_base::write_atomically;
use foveal_data::{DataConfig, Skipped};

use super::Progress;
use crate::error::TrainError;

/// Key of the list of images that passed the checks but failed to load.
const LOADING: &str = "loading";

/// The set of a joined training set and the id in it that an image is known by.
type Key = (Option<String>, i64);

fn key(skipped: &Skipped) -> Key {
    (skipped.set.clone(), skipped.image_id)
}

/// Images and boxes left out so far: `training` and `validation` by the checks, `loading` by failures to load.
#[derive(Debug)]
pub(crate) struct SkipList {
    path: PathBuf,
    sets: BTreeMap<&'static str, Vec<Skipped>>,
    /// The images that were left out of each set, by the checks or while loading.
    images: BTreeMap<&'static str, HashSet<Key>>,
    /// Number of images of each set, with those that the checks left out.
    sizes: BTreeMap<&'static str, usize>,
    /// Number of entries of the file.
    written: usize,
}

impl SkipList {
    pub(crate) fn new(path: PathBuf) -> Self {
        let (sets, images, sizes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { path, sets, images, sizes, written: 0 }
    }

    /// Adds what the checks left out of a set of which `images` images can be used.
    ///
    /// # Errors
    /// [`TrainError::TooManySkipped`] when more images were left out than `data.max_skipped` allows,
    /// [`TrainError::Write`] when the file cannot be written.
    pub(crate) fn add_checked(
        &mut self,
        set: &'static str,
        skipped: &[Skipped],
        images: usize,
        data: &DataConfig,
    ) -> Result<(), TrainError> {
        let left_out: HashSet<Key> = skipped.iter().filter(|s| s.is_unreadable_image()).map(key).collect();
        self.sizes.insert(set, images + left_out.len());
        self.images.insert(set, left_out);
        self.sets.insert(set, skipped.to_vec());
        self.write()?;
        self.check(set, data)
    }

    /// Adds images of a set that passed the checks but failed to load, and reports a warning for each new one.
    ///
    /// # Errors
    /// [`TrainError::TooManySkipped`] when more images were left out than `data.max_skipped` allows,
    /// [`TrainError::Write`] when the file cannot be written.
    pub(crate) fn add_loading(
        &mut self,
        set: &'static str,
        skipped: Vec<Skipped>,
        data: &DataConfig,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let known = self.images.entry(set).or_default();
        let list = self.sets.entry(LOADING).or_default();
        let before = list.len();
        for skipped in skipped {
            if known.insert(key(&skipped)) {
                progress
                    .message(&format!("warning: image left out, because it could not be loaded: {}", skipped.reason));
                list.push(skipped);
            }
        }
        if list.len() == before {
            return Ok(());
        }
        let checked = self.check(set, data);
        // The whole file is written each time, so that a long list is written when it has grown by a tenth.
        let entries: usize = self.sets.values().map(Vec::len).sum();
        if checked.is_err() || entries > self.written + self.written / 10 {
            self.write()?;
        }
        checked
    }

    fn check(&self, set: &'static str, data: &DataConfig) -> Result<(), TrainError> {
        let (skipped, images) = (self.images[set].len(), self.sizes.get(set).copied().unwrap_or_default());
        let limit = data.skip_limit(images);
        if skipped <= limit {
            return Ok(());
        }
        let of_set = |s: &&Skipped| s.is_unreadable_image() && self.images[set].contains(&key(s));
        let lists = [set, LOADING].into_iter().filter_map(|list| self.sets.get(list));
        let first = lists.flatten().find(of_set).map(|s| s.reason.clone()).unwrap_or_default();
        Err(TrainError::TooManySkipped { set, skipped, images, limit, first })
    }

    /// Writes the file, unless nothing was left out.
    ///
    /// # Errors
    /// [`TrainError::Write`] when the file cannot be written.
    pub(crate) fn write(&mut self) -> Result<(), TrainError> {
        let entries = self.sets.values().map(Vec::len).sum();
        if entries != self.written {
            let filled: BTreeMap<_, _> = self.sets.iter().filter(|(_, list)| !list.is_empty()).collect();
            let json = serde_json::to_string_pretty(&filled).expect("plain data is JSON");
            write_atomically(&self.path, json.as_bytes())?;
            self.written = entries;
        }
        Ok(())
    }
}
