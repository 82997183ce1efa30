//! Opens the training and validation set of a run.

use std::sync::Arc;

use foveal_coco::CategoryInfo;
use foveal_data::{CheckReport, DataConfig, Dataset, ImageCache, part_uses};

use crate::config::RunConfig;
use crate::error::TrainError;
use crate::run::{Progress, RunDir, SkipList};

/// The training and validation set of a run. With `train.overfit` both are the same few training images.
pub(crate) struct Sets {
    /// The training set.
    pub train: Arc<Dataset>,
    /// The validation set.
    pub val: Arc<Dataset>,
    /// Images and boxes that were left out of the sets.
    pub skipped: SkipList,
    /// The cache of their decoded and resized images (`data.cache`).
    pub cache: Option<Arc<ImageCache>>,
}

impl Sets {
    /// Opens and checks both sets, reports a summary of each, and writes what is left out to `skipped.json`.
    ///
    /// # Errors
    /// [`TrainError::Data`] when a set or the cache cannot be opened, [`TrainError::Empty`] when one has no usable
    /// image, [`TrainError::TooManySkipped`] when more images are left out than `data.max_skipped` allows,
    /// [`TrainError::Write`] when `skipped.json` cannot be written.
    pub(crate) fn open(config: &RunConfig, run: &RunDir, progress: &mut dyn Progress) -> Result<Self, TrainError> {
        let opened = config.data.open_train()?;
        let mut skipped = SkipList::new(run.skipped());
        report_set("training", &opened.report, &config.data, &mut skipped, progress)?;
        let (train, val) = if config.train.overfit > 0 {
            let subset = Arc::new(opened.dataset.subset(config.train.overfit));
            progress.message(&format!(
                "overfitting {} training images without augmentation (train.overfit); evaluations use the same images",
                subset.len()
            ));
            (Arc::clone(&subset), subset)
        } else {
            let val = config.data.open_val_with(Some(opened.dataset.label_map()))?;
            report_set("validation", &val.report, &config.data, &mut skipped, progress)?;
            (Arc::new(opened.dataset), Arc::new(val.dataset))
        };
        for (set, dataset) in [("training", &train), ("validation", &val)] {
            if dataset.is_empty() {
                return Err(TrainError::Empty { set });
            }
        }
        for used in part_uses(&train, &config.data) {
            progress.message(&format!("training set {used}"));
        }
        let cache = ImageCache::open(&config.data)?;
        Ok(Self { train, val, skipped, cache })
    }

    /// Number of objects of each class in the training set.
    pub(crate) fn objects_by_class(&self) -> Vec<usize> {
        self.train.objects_by_class()
    }

    /// The categories of the data sets, in the order of the classes.
    pub(crate) fn categories(&self) -> &[CategoryInfo] {
        self.train.label_map().categories()
    }
}

/// Reports the summary of a set and records what was left out of it.
fn report_set(
    set: &'static str,
    report: &CheckReport,
    data: &DataConfig,
    skipped: &mut SkipList,
    progress: &mut dyn Progress,
) -> Result<(), TrainError> {
    progress.message(&format!("{set} set: {}", report.summary()));
    skipped.add_checked(set, &report.skipped, report.images, data)
}
