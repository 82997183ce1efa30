//! The numbers that show where the metrics are lost: AP at several IoU thresholds, with and without classes.

use std::collections::HashSet;

use foveal_coco::{CocoDataset, CocoDetection};
use serde::Serialize;

use super::context::Context;
use crate::EvalError;
use crate::engine::EvalInput;
use crate::image_boxes::{Best, Class, FITS, images, object_count, share_found};

/// The IoU thresholds of the measured APs.
const IOUS: [f64; 5] = [0.1, 0.2, 0.3, 0.4, 0.5];

/// Average precision at an IoU threshold, from 0 to 1; -1 if it is undefined.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ApAtIou {
    /// The IoU threshold.
    pub iou: f64,
    /// The mean over the categories, as in COCO's metrics.
    pub with_classes: f64,
    /// The AP of all detections and objects as if they were of one category.
    pub without_classes: f64,
}

/// The measured numbers of an explanation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Number of images.
    pub images: usize,
    /// Number of objects, without crowd regions.
    pub objects: usize,
    /// Number of detections.
    pub detections: usize,
    /// Number of detections on images that the annotations do not list. They have no part in the APs.
    pub on_unknown_images: usize,
    /// Lowest and highest score; `None` without detections.
    pub scores: Option<[f64; 2]>,
    /// Fraction of the objects that a detection of their category fits with an IoU of at least 0.5.
    pub found: f64,
    /// Fraction of the objects that a detection of any category fits with an IoU of at least 0.5.
    pub found_without_classes: f64,
    /// AP at the IoU thresholds 0.1 to 0.5.
    pub ap: Vec<ApAtIou>,
}

impl Measured {
    /// The numbers where there are no detections.
    pub(super) fn nothing(truth: &CocoDataset) -> Self {
        Self {
            images: truth.images.len(),
            objects: truth.annotations.iter().filter(|a| !a.iscrowd).count(),
            detections: 0,
            on_unknown_images: 0,
            scores: None,
            found: 0.0,
            found_without_classes: 0.0,
            ap: IOUS.iter().map(|&iou| ApAtIou { iou, with_classes: 0.0, without_classes: 0.0 }).collect(),
        }
    }

    /// Measures the detections.
    ///
    /// # Errors
    /// If hotcoco reports an error.
    pub(super) fn new(context: &Context) -> Result<Self, EvalError> {
        let Context { truth, detections, .. } = context;
        let known: HashSet<i64> = truth.images.iter().map(|image| image.id).collect();
        let with_classes = average_precisions(truth, detections, &IOUS)?;
        let (one, pooled) = pooled(truth, detections);
        let without_classes = average_precisions(&one, &pooled, &IOUS)?;
        let each = images(truth, detections);
        let found = |class| share_found(&each, Best::All, FITS, class);
        let scores = detections.iter().map(|d| [d.score; 2]);
        Ok(Self {
            objects: object_count(&each),
            detections: detections.len(),
            on_unknown_images: detections.iter().filter(|d| !known.contains(&d.image_id)).count(),
            scores: scores.reduce(|[low, high], [score, _]| [low.min(score), high.max(score)]),
            found: found(Class::Same),
            found_without_classes: found(Class::Any),
            ap: (0..IOUS.len())
                .map(|i| ApAtIou { iou: IOUS[i], with_classes: with_classes[i], without_classes: without_classes[i] })
                .collect(),
            ..Self::nothing(truth)
        })
    }
}

/// The data as if all objects and detections were of one category.
fn pooled(truth: &CocoDataset, detections: &[CocoDetection]) -> (CocoDataset, Vec<CocoDetection>) {
    let mut truth = truth.clone();
    truth.categories.truncate(1);
    let id = truth.categories.first().map_or(0, |category| category.id);
    truth.annotations.iter_mut().for_each(|a| a.category_id = id);
    (truth, detections.iter().map(|d| CocoDetection { category_id: id, ..*d }).collect())
}

/// AP50 of the detections on images that the annotations list, by COCO's rules; -1 if it is undefined.
///
/// # Errors
/// If hotcoco reports an error.
pub(super) fn average_precision(truth: &CocoDataset, detections: &[CocoDetection]) -> Result<f64, EvalError> {
    Ok(average_precisions(truth, detections, &[f64::from(FITS)])?[0])
}

/// AP at IoU thresholds, by COCO's rules, of the detections on images that the annotations list; -1 if it is undefined.
fn average_precisions(truth: &CocoDataset, detections: &[CocoDetection], ious: &[f64]) -> Result<Vec<f64>, EvalError> {
    let known: HashSet<i64> = truth.images.iter().map(|image| image.id).collect();
    let detections: Vec<CocoDetection> = detections.iter().filter(|d| known.contains(&d.image_id)).copied().collect();
    if detections.is_empty() {
        return Ok(vec![0.0; ious.len()]);
    }
    let EvalInput { mut eval, .. } = EvalInput::new(truth, &detections)?;
    eval.params.iou_thrs = ious.to_vec();
    let ranges = &mut eval.params.area_ranges;
    ranges.truncate(1);
    eval.params.max_dets = vec![100];
    eval.evaluate()?;
    eval.accumulate();
    let Some(found) = eval.accumulated() else { return Ok(vec![-1.0; ious.len()]) };
    let mean = |iou: usize| {
        let (mut sum, mut count) = (0.0, 0usize);
        for category in 0..found.shape.k {
            for recall in 0..found.shape.r {
                let value = found.precision[found.precision_idx(iou, recall, category, 0, 0)];
                if value >= 0.0 {
                    sum += value;
                    count += 1;
                }
            }
        }
        if count == 0 { -1.0 } else { sum / count as f64 }
    };
    Ok((0..ious.len()).map(mean).collect())
}
