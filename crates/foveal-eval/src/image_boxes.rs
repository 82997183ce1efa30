//! The objects and detections of each image, and how many objects are found.

use std::collections::HashMap;

use foveal_boxes::{BBox, iou};
use foveal_coco::{Annotation, CocoDataset, CocoDetection, Image, xywh_to_bbox};

/// Number of detections per image that count, as in COCO's metrics.
pub(crate) const LIMIT: usize = 100;
/// IoU from which a detection fits an object, as in AP50.
pub(crate) const FITS: f32 = 0.5;

/// An image that has objects, with its detections.
pub(crate) struct ImageBoxes<'a> {
    pub(crate) image: &'a Image,
    /// The objects of the image, without crowd regions.
    pub(crate) objects: Vec<&'a Annotation>,
    /// The detections with the highest scores, at most [`LIMIT`], in descending order of score.
    pub(crate) detections: Vec<&'a CocoDetection>,
}

/// The images that have objects, in ascending order of their ids.
pub(crate) fn images<'a>(truth: &'a CocoDataset, detections: &'a [CocoDetection]) -> Vec<ImageBoxes<'a>> {
    let mut by_id: HashMap<i64, ImageBoxes<'a>> = truth
        .images
        .iter()
        .map(|image| (image.id, ImageBoxes { image, objects: Vec::new(), detections: Vec::new() }))
        .collect();
    for object in truth.annotations.iter().filter(|a| !a.iscrowd) {
        if let Some(entry) = by_id.get_mut(&object.image_id) {
            entry.objects.push(object);
        }
    }
    for detection in detections {
        if let Some(entry) = by_id.get_mut(&detection.image_id) {
            entry.detections.push(detection);
        }
    }
    let mut images: Vec<ImageBoxes> = by_id.into_values().filter(|p| !p.objects.is_empty()).collect();
    images.sort_by_key(|entry| entry.image.id);
    for entry in &mut images {
        entry.detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        entry.detections.truncate(LIMIT);
    }
    images
}

/// The detections that count for an object: those of its class, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Same,
    Any,
}

impl Class {
    /// Whether a detection counts for an object.
    pub(crate) fn fits(self, detection: &CocoDetection, object: &Annotation) -> bool {
        self == Self::Any || detection.category_id == object.category_id
    }
}

/// The detections of an image that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Best {
    /// At most [`LIMIT`], as in COCO's metrics.
    All,
    /// Those with the highest scores, two for each object of the image. Among many detections, some fit by chance.
    TwoAnObject,
}

/// An object and the detection that is matched with it.
pub(crate) type Pair<'a> = (&'a Annotation, &'a CocoDetection);

impl<'a> ImageBoxes<'a> {
    /// The detections that count.
    pub(crate) fn best(&self, best: Best) -> &[&'a CocoDetection] {
        let count = match best {
            Best::All => self.detections.len(),
            Best::TwoAnObject => self.detections.len().min(2 * self.objects.len()),
        };
        &self.detections[..count]
    }

    /// Matches detections with objects one to one: each detection, the highest score first, with the object that has
    /// the highest IoU of those that are left, if it is at least `threshold`.
    pub(crate) fn pairs(&self, best: Best, threshold: f32, class: Class) -> Vec<Pair<'a>> {
        let places: Vec<BBox> = self.objects.iter().map(|object| xywh_to_bbox(&object.bbox)).collect();
        let mut taken = vec![false; places.len()];
        let mut pairs = Vec::new();
        for &detection in self.best(best) {
            let place = xywh_to_bbox(&detection.bbox);
            let left = (0..places.len()).filter(|&i| !taken[i] && class.fits(detection, self.objects[i]));
            let nearest = left.map(|i| (i, iou(&place, &places[i]))).max_by(|a, b| a.1.total_cmp(&b.1));
            if let Some((object, _)) = nearest.filter(|(_, overlap)| *overlap >= threshold) {
                taken[object] = true;
                pairs.push((self.objects[object], detection));
            }
        }
        pairs
    }
}

/// The number of objects of all images.
pub(crate) fn object_count(images: &[ImageBoxes]) -> usize {
    images.iter().map(|entry| entry.objects.len()).sum()
}

/// The fraction of the objects that are matched with a detection.
pub(crate) fn share_found(images: &[ImageBoxes], best: Best, threshold: f32, class: Class) -> f64 {
    let found: usize = images.iter().map(|entry| entry.pairs(best, threshold, class).len()).sum();
    found as f64 / object_count(images).max(1) as f64
}

/// A fraction as text in percent.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.0} %", 100.0 * part)
}
