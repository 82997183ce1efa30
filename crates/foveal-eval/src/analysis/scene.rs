//! The objects and detections of single images, with the IoU of every pair.

use std::collections::{BTreeMap, HashMap};

use foveal_coco::{CocoDataset, CocoDetection};
use hotcoco::primitives::sim::bbox_iou_flat;
use rayon::prelude::*;

/// IoU from which a detection counts as found an object, in all analysis of single detections.
pub(crate) const MATCH_IOU: f64 = 0.5;
/// Largest number of detections of each category in an image, as in COCO's metrics.
const MAX_DETECTIONS: usize = 100;

/// The annotations and detections of a data set by image. Only indices are stored; [`Scenes::map`] computes one image
/// after the other, so memory does not grow with the pairs of all images.
pub(crate) struct Scenes<'a> {
    truth: &'a CocoDataset,
    detections: &'a [CocoDetection],
    /// Ids of the categories in ascending order.
    pub(crate) categories: Vec<i64>,
    classes: HashMap<i64, usize>,
    /// Annotation and detection indices of each image, in ascending order of the image ids.
    images: Vec<(i64, Indices)>,
}

#[derive(Default)]
struct Indices {
    annotations: Vec<usize>,
    detections: Vec<usize>,
}

/// The objects and detections of one image.
pub(crate) struct Scene {
    /// Id of the image.
    pub(crate) image: i64,
    /// Objects and crowd regions of all categories, in the order of the file.
    pub(crate) objects: Vec<Object>,
    /// Detections of all categories in descending order of score; at most 100 of each category.
    pub(crate) found: Vec<Found>,
    /// IoU of each detection with each object: `[found, objects]`. For a crowd region, it is the share of the
    /// detection's area that lies in the region.
    ious: Vec<f64>,
}

/// An object or a crowd region.
pub(crate) struct Object {
    /// Index of the annotation in the ground truth.
    pub(crate) index: usize,
    /// Index of the category.
    pub(crate) class: usize,
    /// Whether this is a crowd region, which is not an object.
    pub(crate) crowd: bool,
    /// Whether a detection of the same category has been matched with this object.
    pub(crate) used: bool,
}

/// A detection.
pub(crate) struct Found {
    /// Index of the detection in the results.
    pub(crate) index: usize,
    /// Index of the category.
    pub(crate) class: usize,
    /// Score.
    pub(crate) score: f64,
    /// Whether the detection matches an object of its category that no detection with a higher score matches.
    pub(crate) hit: bool,
    /// Whether the detection lies on a crowd region of its category and matches no object. It then counts neither as
    /// right nor as wrong.
    pub(crate) on_crowd: bool,
}

impl<'a> Scenes<'a> {
    pub(crate) fn new(truth: &'a CocoDataset, detections: &'a [CocoDetection]) -> Self {
        let mut categories: Vec<i64> = truth.categories.iter().map(|c| c.id).collect();
        categories.sort_unstable();
        categories.dedup();
        let classes: HashMap<i64, usize> = categories.iter().copied().zip(0..).collect();
        let mut images: BTreeMap<i64, Indices> = truth.images.iter().map(|i| (i.id, Indices::default())).collect();
        for (index, annotation) in truth.annotations.iter().enumerate() {
            if let (Some(of), true) =
                (images.get_mut(&annotation.image_id), classes.contains_key(&annotation.category_id))
            {
                of.annotations.push(index);
            }
        }
        for (index, detection) in detections.iter().enumerate() {
            if let (Some(of), true) =
                (images.get_mut(&detection.image_id), classes.contains_key(&detection.category_id))
            {
                of.detections.push(index);
            }
        }
        Self { truth, detections, categories, classes, images: images.into_iter().collect() }
    }

    /// Computes a value for each image, in ascending order of the image ids.
    pub(crate) fn map<T: Send>(&self, of: impl Fn(&Scene) -> T + Sync) -> Vec<T> {
        self.images.par_iter().map(|(image, indices)| of(&self.scene(*image, indices))).collect()
    }

    fn scene(&self, image: i64, indices: &Indices) -> Scene {
        let mut objects: Vec<Object> = indices
            .annotations
            .iter()
            .map(|&index| {
                let annotation = &self.truth.annotations[index];
                let class = self.classes[&annotation.category_id];
                Object { index, class, crowd: annotation.iscrowd, used: false }
            })
            .collect();
        let mut order = indices.detections.clone();
        order.sort_by(|&a, &b| self.detections[b].score.total_cmp(&self.detections[a].score));
        let mut counts: HashMap<usize, usize> = HashMap::new();
        let mut found: Vec<Found> = order
            .into_iter()
            .filter_map(|index| {
                let detection = &self.detections[index];
                let class = self.classes[&detection.category_id];
                let count = counts.entry(class).or_insert(0);
                *count += 1;
                let new = Found { index, class, score: detection.score, hit: false, on_crowd: false };
                (*count <= MAX_DETECTIONS).then_some(new)
            })
            .collect();
        let boxes: Vec<_> = found.iter().map(|f| self.detections[f.index].bbox).collect();
        let truths: Vec<_> = objects.iter().map(|o| self.truth.annotations[o.index].bbox).collect();
        let crowds: Vec<bool> = objects.iter().map(|o| o.crowd).collect();
        let ious = bbox_iou_flat(&boxes, &truths, &crowds);
        match_classes(&mut objects, &mut found, &ious);
        Scene { image, objects, found, ious }
    }
}

/// Matches the detections of each category with its objects by COCO's rules at an IoU of [`MATCH_IOU`].
fn match_classes(objects: &mut [Object], found: &mut [Found], ious: &[f64]) {
    let count = objects.len();
    for (detection, row) in found.iter_mut().zip(ious.chunks_exact(count.max(1))) {
        let mut best = None;
        for (object, iou) in row.iter().enumerate() {
            let Object { class, crowd, used, .. } = objects[object];
            if class != detection.class || *iou < MATCH_IOU {
                continue;
            }
            if crowd {
                detection.on_crowd = true;
            } else if !used && best.is_none_or(|(_, high)| *iou >= high) {
                best = Some((object, *iou));
            }
        }
        if let Some((object, _)) = best {
            objects[object].used = true;
            (detection.hit, detection.on_crowd) = (true, false);
        }
    }
}

impl Scene {
    /// The IoU of a detection with every object and crowd region.
    pub(crate) fn ious(&self, detection: usize) -> &[f64] {
        let count = self.objects.len();
        &self.ious[detection * count..(detection + 1) * count]
    }

    /// The object, but no crowd region, with the highest IoU with a detection among those that `wanted` accepts, and
    /// that IoU. The first of equal ones; `None` if all are 0.
    pub(crate) fn best(&self, detection: usize, wanted: impl Fn(&Object) -> bool) -> Option<(usize, f64)> {
        let mut best: Option<(usize, f64)> = None;
        for (object, &iou) in self.ious(detection).iter().enumerate() {
            let accepted = !self.objects[object].crowd && wanted(&self.objects[object]);
            if accepted && iou > best.map_or(0.0, |(_, high)| high) {
                best = Some((object, iou));
            }
        }
        best
    }
}
