//! Annotations that are probably wrong, judged by the detections that disagree with them.

use foveal_coco::{CocoDataset, CocoDetection};
use serde::Serialize;

use super::scene::{MATCH_IOU, Scene, Scenes};

/// A detection is on no object if its IoU with every object is below this.
const APART_IOU: f64 = 0.1;

/// Why an annotation is probably wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelErrorKind {
    /// A confident detection has an IoU below 0.1 with every object and lies on no crowd region: an object may lack its
    /// annotation.
    NoObject,
    /// No detection of any class and score has an IoU of at least 0.5 with the object: there may be no object, or its
    /// box is wrong.
    NeverFound,
    /// Confident detections have an IoU of at least 0.5 with the object, and all of them have another class.
    OtherClass,
}

/// An annotation that is probably wrong, or an object that probably lacks its annotation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelError {
    /// The reason.
    pub kind: LabelErrorKind,
    /// Id of the image.
    pub image_id: i64,
    /// File name of the image in the annotation file.
    pub file_name: String,
    /// Id of the annotation; `None` (`null`) for `no_object`.
    pub annotation_id: Option<i64>,
    /// Category id of the annotation; `None` (`null`) for `no_object`.
    pub category_id: Option<i64>,
    /// Category id of the detection with the highest score; `None` (`null`) for `never_found`.
    pub detected_category_id: Option<i64>,
    /// The highest score of the detections; `None` (`null`) for `never_found`.
    pub score: Option<f64>,
    /// `[x, y, width, height]` in pixels: the box of the annotation, or of the detection for `no_object`.
    pub bbox: [f64; 4],
}

/// The likely errors: first those of detections, in descending order of score, then the objects never found, in
/// descending order of their area, because large objects are rarely missed. `thresholds` has the score from which a
/// detection of each category is confident; `None` if none of its detections is.
pub(crate) fn label_errors(
    scenes: &Scenes<'_>,
    truth: &CocoDataset,
    detections: &[CocoDetection],
    thresholds: &[Option<f64>],
) -> Vec<LabelError> {
    let files: std::collections::HashMap<i64, &str> =
        truth.images.iter().map(|image| (image.id, image.file_name.as_str())).collect();
    let file_name = |image: i64| files.get(&image).map_or_else(String::new, |name| (*name).to_owned());
    let of_image = |scene: &Scene| {
        let confident: Vec<usize> = (0..scene.found.len())
            .filter(|&d| thresholds[scene.found[d].class].is_some_and(|low| scene.found[d].score >= low))
            .collect();
        let mut errors = Vec::new();
        for &d in &confident {
            if scene.ious(d).iter().all(|iou| *iou < APART_IOU) {
                let detection = &detections[scene.found[d].index];
                errors.push(LabelError {
                    kind: LabelErrorKind::NoObject,
                    image_id: scene.image,
                    file_name: file_name(scene.image),
                    annotation_id: None,
                    category_id: None,
                    detected_category_id: Some(detection.category_id),
                    score: Some(detection.score),
                    bbox: detection.bbox,
                });
            }
        }
        for (index, object) in scene.objects.iter().enumerate().filter(|(_, object)| !object.crowd) {
            let on = |d: usize| scene.ious(d)[index] >= MATCH_IOU;
            let never = !(0..scene.found.len()).any(on);
            let sure: Vec<usize> = confident.iter().copied().filter(|&d| on(d)).collect();
            let other = sure.first().filter(|_| sure.iter().all(|&d| scene.found[d].class != object.class));
            let kind = match (never, other) {
                (true, _) => LabelErrorKind::NeverFound,
                (false, Some(_)) => LabelErrorKind::OtherClass,
                (false, None) => continue,
            };
            let annotation = &truth.annotations[object.index];
            let detection = other.map(|&d| &detections[scene.found[d].index]);
            errors.push(LabelError {
                kind,
                image_id: scene.image,
                file_name: file_name(scene.image),
                annotation_id: Some(annotation.id),
                category_id: Some(annotation.category_id),
                detected_category_id: detection.map(|d| d.category_id),
                score: detection.map(|d| d.score),
                bbox: annotation.bbox,
            });
        }
        errors
    };
    let mut errors: Vec<LabelError> = scenes.map(of_image).into_iter().flatten().collect();
    let area = |error: &LabelError| error.bbox[2] * error.bbox[3];
    errors.sort_by(|a, b| {
        let score = |error: &LabelError| error.score.unwrap_or(f64::NEG_INFINITY);
        score(b).total_cmp(&score(a)).then_with(|| area(b).total_cmp(&area(a)))
    });
    errors
}
