//! The data sets of `foveal init`: opened, checked, and divided if there is no validation set.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use foveal_coco::CocoDataset;
use foveal_data::{
    CheckReport, DataConfig, DataError, Dataset, Holdout, Opened, ResizedStats, SetConfig, Symmetry, same_images,
};

use super::facts::ValFacts;
use super::settings::Given;
use crate::args::InitArgs;
use crate::console::note;

/// Part of the images that is held out for validation, and the most images that are.
const HELD_OUT: f64 = 0.2;
const MOST_HELD_OUT: f64 = 5000.0;
/// Most images whose objects are compared with their mirror images.
const COMPARED: usize = 200;

/// The training and the validation set.
pub(super) struct Sets {
    /// The training images.
    pub train: Dataset,
    /// The validation images.
    pub val: Dataset,
    /// Whether the validation images were held out from the file of `--train`.
    pub held_out: bool,
    /// Number of images and boxes that are left out of the sets.
    pub left_out: usize,
    /// Number of images that are another image under a second name or id.
    pub duplicates: usize,
}

impl Sets {
    /// Opens the sets, and divides the training set if there is no other.
    pub(super) fn open(args: &InitArgs, given: &Given) -> Result<Self> {
        let mut config: DataConfig = given.config.data.clone();
        let val_images = args.val_images.as_ref().unwrap_or(&args.images);
        for (option, folder) in [("--images", &args.images), ("--val-images", val_images)] {
            if !folder.is_dir() {
                let found = if folder.exists() { "a file" } else { "nothing" };
                bail!(
                    "{option} {}: expected the folder of the images, found {found}; `file_name` in the annotations is \
                     relative to it",
                    folder.display()
                );
            }
        }
        config.train = SetConfig { annotations: Some(args.train.clone()), images: Some(args.images.clone()) };
        let Opened { dataset, report } = config.inspect_train()?;
        let mut left_out = accepted(&config, &report)?;
        let same = same_images(&dataset)?;
        let duplicates = same.iter().map(|group| group.len() - 1).sum();
        if let Some(annotations) = &args.val {
            config.val = SetConfig { annotations: Some(annotations.clone()), images: Some(val_images.clone()) };
            let val = config.inspect_val(Some(dataset.label_map()))?;
            left_out += accepted(&config, &val.report)?;
            if val.dataset.is_empty() {
                bail!("--val {}: expected at least one image, found none", annotations.display());
            }
            warn_of_overlap(&dataset, &val.dataset);
            return Ok(Self { train: dataset, val: val.dataset, held_out: false, left_out, duplicates });
        }
        let share = HELD_OUT.min(MOST_HELD_OUT / dataset.len().max(1) as f64);
        let Some(Holdout { train, val }) = Holdout::new(&dataset, &same, share, args.seed) else {
            bail!(
                "{}: expected at least two different images, to train on one part and to validate with the other, found \
                 {}; add images, or name a validation set with --val",
                args.train.display(),
                dataset.len() - duplicates
            );
        };
        let (train, val) = (dataset.select(&train), dataset.select(&val));
        Ok(Self { train, val, held_out: true, left_out, duplicates })
    }

    /// The content of the annotation files of both parts, if the validation set was held out.
    pub(super) fn parts(&self) -> Option<[&CocoDataset; 2]> {
        self.held_out.then(|| [self.train.coco(), self.val.coco()])
    }

    /// The measured orientation of the training objects.
    pub(super) fn symmetry(&self) -> Symmetry {
        Symmetry::measure(&self.train, COMPARED)
    }

    /// The fraction of the training objects that are small after resizing.
    pub(super) fn small_share(&self, min_size: u32, max_size: u32) -> f64 {
        let config = DataConfig { min_size, max_size, ..DataConfig::default() };
        ResizedStats::of(&self.train, &config.preprocess()).small_share()
    }

    pub(super) fn val_facts(&self) -> ValFacts {
        let classes = self.train.objects_by_class().into_iter().zip(self.val.objects_by_class());
        ValFacts {
            images: self.val.len(),
            held_out: self.held_out,
            classes_without: classes.filter(|(train, val)| *train > 0 && *val == 0).count(),
        }
    }
}

/// The number of images and boxes that are left out of a set.
///
/// # Errors
/// If the set cannot be used, or more images are left out than training would allow.
fn accepted(config: &DataConfig, report: &CheckReport) -> Result<usize> {
    if report.is_unusable() || report.images == 0 {
        return Err(DataError::Unusable(Box::new(report.clone())).into());
    }
    let unreadable = report.unreadable_images();
    let limit = config.skip_limit(report.images + unreadable);
    if unreadable > limit {
        return Err(DataError::Check(Box::new(report.clone()))).with_context(|| {
            format!("{unreadable} images cannot be read, and at most {limit} may be left out (data.max_skipped)")
        });
    }
    if !report.is_clean() {
        note!("warning: {}: {}", report.set, report.summary());
    }
    Ok(report.errors())
}

/// Warns of files that are in both sets.
fn warn_of_overlap(train: &Dataset, val: &Dataset) {
    let paths = |set: &Dataset| -> HashSet<PathBuf> {
        (0..set.len()).filter_map(|index| set.path(index)?.canonicalize().ok()).collect()
    };
    let shared = paths(train).intersection(&paths(val)).count();
    if shared > 0 {
        note!("warning: {shared} images are in the training set and in the validation set, so that AP is too high");
    }
}
