//! Which detections find which objects, in the order of their scores.

use std::collections::HashMap;

use foveal_boxes::{BBox, iou};
use foveal_coco::{CocoDetection, xywh_to_bbox};
use foveal_data::{Dataset, Record};

/// IoU from which a detection finds an object of its class.
pub(super) const FOUND_IOU: f32 = 0.5;
/// Share of a detection's area in ignored regions from which it is neither right nor wrong.
const IGNORED_SHARE: f32 = 0.5;

/// A detection and whether it found an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) bbox: BBox,
    pub(super) class: u32,
    pub(super) score: f64,
    pub(super) correct: bool,
}

/// The matches of one image.
#[derive(Clone, Debug, Default)]
pub(super) struct ImageMatches {
    /// The detections in descending order of score, without those in ignored regions that found no object.
    pub(super) detections: Vec<Found>,
    /// For each object, the score of the detection that found it: `[objects]`.
    pub(super) found: Vec<Option<f64>>,
}

impl ImageMatches {
    /// Matches detections with the objects of an image: the detections in descending order of score each find the
    /// object of their class with the highest IoU that no detection before has found, from [`FOUND_IOU`] on.
    fn of(record: &Record, mut detections: Vec<Found>) -> Self {
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut found = vec![None; record.objects.len()];
        for detection in &mut detections {
            let free = record
                .objects
                .iter()
                .enumerate()
                .filter(|(index, object)| found[*index].is_none() && object.class == detection.class);
            let best = free.map(|(index, object)| (index, iou(&object.bbox, &detection.bbox)));
            let best = best.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, overlap)| *overlap >= FOUND_IOU);
            if let Some((index, _)) = best {
                found[index] = Some(detection.score);
                detection.correct = true;
            }
        }
        let ignored =
            |bbox: &BBox| record.crowds.iter().any(|crowd| crowd.intersection(bbox) >= IGNORED_SHARE * bbox.area());
        detections.retain(|detection| detection.correct || !ignored(&detection.bbox));
        Self { detections, found }
    }

    /// The number of objects that no detection from a score on found, and of such detections that found no object.
    pub(super) fn errors(&self, score: f64) -> [usize; 2] {
        let missed = self.found.iter().filter(|found| found.is_none_or(|own| own < score)).count();
        let wrong = self.detections.iter().filter(|found| !found.correct && found.score >= score).count();
        [missed, wrong]
    }
}

/// The matches of every image of a data set, in the order of its images. Detections of images and categories that the
/// data set does not have are left out.
pub(super) fn matches(dataset: &Dataset, detections: &[CocoDetection]) -> Vec<ImageMatches> {
    let mut by_image: HashMap<i64, Vec<Found>> = HashMap::new();
    for detection in detections {
        if let Some(class) = dataset.label_map().class_of(detection.category_id) {
            let (bbox, score) = (xywh_to_bbox(&detection.bbox), detection.score);
            by_image.entry(detection.image_id).or_default().push(Found { bbox, class, score, correct: false });
        }
    }
    let records = dataset.records().iter();
    records.map(|record| ImageMatches::of(record, by_image.remove(&record.image_id).unwrap_or_default())).collect()
}

/// The score from which the detections of all images and classes together have the highest F1; `None` if none of them
/// found an object.
pub(super) fn best_f1_score(images: &[ImageMatches]) -> Option<f64> {
    let objects: usize = images.iter().map(|image| image.found.len()).sum();
    let mut all: Vec<(f64, bool)> =
        images.iter().flat_map(|image| image.detections.iter().map(|found| (found.score, found.correct))).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut correct, mut best) = (0_usize, None);
    for (index, (score, is_correct)) in all.iter().enumerate() {
        correct += usize::from(*is_correct);
        // Detections with equal scores are kept together.
        if all.get(index + 1).is_some_and(|next| next.0 == *score) {
            continue;
        }
        let f1 = 2.0 * correct as f64 / (index + 1 + objects) as f64;
        if correct > 0 && best.is_none_or(|(highest, _)| f1 > highest) {
            best = Some((f1, *score));
        }
    }
    best.map(|(_, score)| score)
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_data::Object;

    fn record() -> Record {
        let object = |x: f32, class| Object { bbox: BBox::new(x, 0.0, x + 10.0, 10.0), class, area: 100.0 };
        Record {
            image_id: 1,
            file_name: "a.jpg".to_owned(),
            width: 200,
            height: 100,
            objects: vec![object(0.0, 0), object(20.0, 0), object(40.0, 1)],
            crowds: vec![BBox::new(100.0, 0.0, 200.0, 100.0)],
        }
    }

    fn found(x: f32, class: u32, score: f64) -> Found {
        Found { bbox: BBox::new(x, 0.0, x + 10.0, 10.0), class, score, correct: false }
    }

    #[test]
    fn each_object_is_found_once_by_the_highest_score_of_its_class() {
        let detections = vec![found(1.0, 0, 0.5), found(0.0, 0, 0.9), found(40.0, 0, 0.8), found(120.0, 0, 0.7)];
        let image = ImageMatches::of(&record(), detections);
        assert_eq!(image.found, [Some(0.9), None, None]);
        // The detection in the ignored region is left out.
        let kept: Vec<(f64, bool)> = image.detections.iter().map(|d| (d.score, d.correct)).collect();
        assert_eq!(kept, [(0.9, true), (0.8, false), (0.5, false)]);
        assert_eq!((image.errors(0.0), image.errors(0.85), image.errors(0.95)), ([2, 2], [2, 0], [3, 0]));
    }

    #[test]
    fn the_best_f1_counts_missed_objects_and_false_alarms() {
        let detections = vec![found(0.0, 0, 0.9), found(60.0, 0, 0.8), found(20.0, 0, 0.7), found(40.0, 0, 0.6)];
        let image = ImageMatches::of(&record(), detections);
        // F1 is 2/4 at 0.9, 2/5 at 0.8, 4/6 at 0.7 and 4/7 at 0.6.
        assert_eq!(best_f1_score(&[image]), Some(0.7));
        assert_eq!(best_f1_score(&[ImageMatches::of(&record(), vec![])]), None);
    }
}
