//! Joins the sets that a training set is made of.

use foveal_coco::CocoDataset;

use super::ids::UniqueIds;
use super::{Parts, TrainSet};
use crate::CheckReport;
use crate::dataset::{Dataset, Opened};

/// Joins sets with the same classes into one, whose images are in the order of the sets. The ids of images and of
/// annotations become unique: those of a later set that an earlier one has too are replaced by the next integers above
/// the largest id of all sets. A single set stays as it is.
///
/// # Panics
/// If there is no set.
pub fn join_sets(mut sets: Vec<TrainSet>) -> Opened {
    if sets.len() == 1 {
        return sets.remove(0).opened;
    }
    let first = &sets[0].opened.dataset;
    let (labels, limit) = (first.labels.clone(), first.limit);
    let mut coco = CocoDataset { categories: first.coco.categories.clone(), ..CocoDataset::default() };
    let all = || sets.iter().map(|set| &set.opened.dataset.coco);
    let mut image_ids = UniqueIds::new(all().flat_map(|coco| coco.images.iter().map(|image| image.id)));
    let mut annotation_ids = UniqueIds::new(all().flat_map(|coco| coco.annotations.iter().map(|a| a.id)));
    let (mut records, mut sources, mut parts) = (Vec::new(), Vec::new(), Parts::default());
    let mut report = CheckReport::default();
    for (number, TrainSet { part, opened }) in sets.into_iter().enumerate() {
        report.join(opened.report, number == 0);
        let data = opened.dataset;
        let mut new_ids = std::collections::HashMap::with_capacity(data.records.len());
        for mut record in data.records {
            let id = image_ids.unique(record.image_id);
            new_ids.insert(record.image_id, id);
            parts.ids.push(record.image_id);
            parts.of.push(number);
            record.image_id = id;
            records.push(record);
        }
        sources.extend(data.sources);
        for mut image in data.coco.images {
            image.id = new_ids[&image.id];
            coco.images.push(image);
        }
        for mut annotation in data.coco.annotations {
            annotation.id = annotation_ids.unique(annotation.id);
            annotation.image_id = new_ids[&annotation.image_id];
            coco.annotations.push(annotation);
        }
        parts.list.push(part);
    }
    Opened { dataset: Dataset { records, sources, labels, coco, limit, parts }, report }
}
