//! Whether the images of the validation set are those that its annotations describe.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use foveal_data::{Dataset, Record};
use foveal_eval::Check;
use foveal_train::RunConfig;

/// Fraction of the validation images from which a defect is a cause.
const MANY: f64 = 0.25;
/// Difference in pixels up to which two boxes are the same.
const SAME: f32 = 1.0;

/// The check of image files that both sets name with other objects: one of the folders or of the annotation files is
/// then that of the other set. `trained` is the configuration of the training.
pub(super) fn shared(dataset: &Dataset, config: &RunConfig, train: &Dataset, trained: &RunConfig) -> Check {
    let val_folder = config.data.val.images.clone().unwrap_or_default();
    let train_folder = trained.data.train.images.clone().unwrap_or_default();
    let folder = |index: usize| trained_folder(train, index, trained).unwrap_or(&train_folder);
    let path = |folder: &Path, record: &Record| std::fs::canonicalize(folder.join(&record.file_name)).ok();
    let records = train.records().iter().enumerate();
    let of_training: HashMap<PathBuf, &Record> =
        records.filter_map(|(index, record)| Some((path(folder(index), record)?, record))).collect();
    let (mut shared, mut different) = (0, 0);
    for record in dataset.records() {
        if let Some(other) = path(&val_folder, record).and_then(|path| of_training.get(&path)) {
            shared += 1;
            different += usize::from(!are_same(record, other));
        }
    }
    let measured = format!(
        "{shared} of {} validation images are files of the training set, {different} of them with other objects",
        dataset.len()
    );
    let share = different as f64 / dataset.len().max(1) as f64;
    if share < MANY {
        return Check::nothing("images_of_training", measured);
    }
    let advice = "The folder or the annotations of one set belong to the other: check data.val.images, \
                  data.val.annotations, data.train.images and data.train.annotations";
    Check::found("images_of_training", 0.95 * share, measured, advice)
}

/// The folder of a training image that is from a further set or a folder of background images.
fn trained_folder<'a>(train: &Dataset, index: usize, trained: &'a RunConfig) -> Option<&'a PathBuf> {
    let (part, _) = train.origin(index)?;
    let number = || part.key.split(['[', ']']).nth(1)?.parse::<usize>().ok();
    match part.backgrounds {
        true => trained.data.backgrounds.get(number()?),
        false => trained.data.more_train.get(number()?).map(|set| &set.images),
    }
}

/// Whether two records have the same boxes, in any order.
fn are_same(a: &Record, b: &Record) -> bool {
    let boxes = |record: &Record| {
        let mut boxes: Vec<[f32; 4]> =
            record.objects.iter().map(|o| [o.bbox.x1, o.bbox.y1, o.bbox.x2, o.bbox.y2]).collect();
        boxes.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        boxes
    };
    let (a, b) = (boxes(a), boxes(b));
    a.len() == b.len() && a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a - b).abs() <= SAME)
}
