//! The data sets of a run.

use std::sync::Arc;

use foveal_coco::CategoryInfo;
use foveal_data::{CheckReport, Dataset};

use crate::config::RunConfig;
use crate::error::TrainError;
use crate::run::{Progress, RunDir, SkipList};

/// The sets of a run.
pub(crate) struct Sets {
    pub train: Arc<Dataset>,
    pub val: Arc<Dataset>,
    /// What was left out of the sets.
    pub skipped: SkipList,
}

impl Sets {
    /// Opens and checks both sets. What is left out goes to `skipped.json`.
    pub(crate) fn open(config: &RunConfig, run: &RunDir, progress: &mut dyn Progress) -> Result<Self, TrainError> {
        let opened = config.data.open_train()?;
        let mut skipped = SkipList::new(run.skipped());
        report_set("training", &opened.report, &mut skipped, progress)?;
        let (train, val) = if config.train.overfit > 0 {
            let few = Arc::new(opened.dataset.subset(config.train.overfit));
            progress.message(&format!("overfitting {} training images, which are evaluated as well", few.len()));
            (Arc::clone(&few), few)
        } else {
            let val = config.data.open_val_with(Some(opened.dataset.label_map()))?;
            report_set("validation", &val.report, &mut skipped, progress)?;
            (Arc::new(opened.dataset), Arc::new(val.dataset))
        };
        for (set, dataset) in [("training", &train), ("validation", &val)] {
            if dataset.is_empty() {
                return Err(TrainError::Empty { set });
            }
        }
        Ok(Self { train, val, skipped })
    }

    /// Training objects of each class.
    pub(crate) fn objects_by_class(&self) -> Vec<usize> {
        self.train.objects_by_class()
    }

    /// The categories of both sets.
    pub(crate) fn categories(&self) -> &[CategoryInfo] {
        self.train.label_map().categories()
    }
}

/// Says what a set is and keeps what was left out of it.
fn report_set(
    set: &'static str,
    report: &CheckReport,
    skipped: &mut SkipList,
    progress: &mut dyn Progress,
) -> Result<(), TrainError> {
    progress.message(&format!("{set} set: {}", report.summary()));
    skipped.add(set, &report.skipped)
}
