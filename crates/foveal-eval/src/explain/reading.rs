//! A different meaning of the numbers of detections or annotations.

use std::collections::HashMap;

use foveal_coco::{CocoDataset, CocoDetection, Image};

/// A change of a box `[x, y, width, height]` of an image.
pub(super) type BoxMap = Box<dyn Fn(&Image, [f64; 4]) -> [f64; 4] + Send + Sync>;

/// A different meaning of boxes and ids, and how it is described.
#[derive(Default)]
pub(super) struct Reading {
    /// The end of "If …" in a sentence.
    pub(super) condition: String,
    /// The change of the boxes of detections.
    pub(super) boxes: Option<BoxMap>,
    /// The change of the boxes of annotations.
    pub(super) truth_boxes: Option<BoxMap>,
    /// The category of the annotations for each category of the detections; others are kept.
    pub(super) categories: Option<HashMap<i64, i64>>,
    /// The image of the annotations for each image of the detections; detections on others are dropped.
    pub(super) images: Option<HashMap<i64, i64>>,
    /// Whether the order of the scores is reversed.
    pub(super) reversed: bool,
}

impl Reading {
    /// A reading that changes the boxes of detections.
    pub(super) fn of_boxes(condition: impl Into<String>, boxes: BoxMap) -> Self {
        Self { condition: condition.into(), boxes: Some(boxes), ..Self::default() }
    }

    /// The annotations and detections under this reading.
    pub(super) fn apply(
        &self,
        truth: &CocoDataset,
        detections: &[CocoDetection],
    ) -> (Option<CocoDataset>, Vec<CocoDetection>) {
        let images: HashMap<i64, &Image> = truth.images.iter().map(|image| (image.id, image)).collect();
        let read = |detection: &CocoDetection| {
            let mut detection = *detection;
            if let Some(map) = &self.images {
                detection.image_id = *map.get(&detection.image_id)?;
            }
            if let (Some(map), Some(image)) = (&self.boxes, images.get(&detection.image_id)) {
                detection.bbox = map(image, detection.bbox);
            }
            if let Some(map) = &self.categories {
                detection.category_id = map.get(&detection.category_id).copied().unwrap_or(detection.category_id);
            }
            if self.reversed {
                detection.score = -detection.score;
            }
            detection.bbox.iter().all(|v| v.is_finite()).then_some(detection)
        };
        let changed = self.truth_boxes.as_ref().map(|map| {
            let mut truth = truth.clone();
            for annotation in &mut truth.annotations {
                if let Some(image) = images.get(&annotation.image_id) {
                    annotation.bbox = map(image, annotation.bbox);
                    annotation.area = annotation.bbox[2] * annotation.bbox[3];
                }
            }
            truth.annotations.retain(|a| a.bbox.iter().all(|v| v.is_finite()));
            truth
        });
        (changed, detections.iter().filter_map(read).collect())
    }
}
