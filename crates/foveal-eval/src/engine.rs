//! Evaluation with hotcoco: conversion of the ground truth and the detections, and of the resulting metrics.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    time::{Duration, Instant},
};

use foveal_coco::{CocoDataset, CocoDetection, read_results};
use hotcoco::{AccumulatedEval, COCO, COCOeval, IouType};

use crate::{CategoryMetrics, EvalError, Metrics, near_zero};

/// Index of IoU 0.50 among the ten IoU thresholds.
const IOU_50: usize = 0;
/// Index of "all" among the four area ranges.
const AREA_ALL: usize = 0;
/// Index of 100 among the limits 1, 10 and 100 of the number of detections per image.
const LIMIT_100: usize = 2;

/// The metrics of detections, with notes on how they were computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// COCO's twelve metrics and the metrics of each category.
    pub metrics: Metrics,
    /// Changes to the input that can make the metrics differ from those of another tool, as sentences for the user; one
    /// entry for each change.
    pub notes: Vec<String>,
    /// The likely reason for a low AP50, as a sentence for the user; `None` if AP50 is not low. See [`near_zero()`].
    pub near_zero: Option<String>,
}

/// Computes COCO's metrics of detections against a ground truth, both in memory. Without detections, the metrics are 0.
///
/// Annotations and detections whose image or category the ground truth does not list are handled as in [`score`], which
/// also returns notes about them.
///
/// # Errors
/// - [`EvalError::UnknownImage`] if a detection is on an image that the ground truth does not list.
/// - [`EvalError::AnnotationNotFinite`], [`EvalError::DetectionNotFinite`] if a box, area or score is not finite.
/// - [`EvalError::Engine`] if hotcoco reports an error.
pub fn evaluate(ground_truth: &CocoDataset, detections: &[CocoDetection]) -> Result<Metrics, EvalError> {
    score(ground_truth, detections).map(|scored| scored.metrics)
}

/// The duration of the two parts of scoring a results file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScoreTimes {
    /// Time for reading and parsing the annotation file and the results file.
    pub read: Duration,
    /// Time for matching the detections and computing the metrics.
    pub evaluate: Duration,
}

/// A results file that has been scored against an annotation file.
#[derive(Clone, Debug)]
pub struct ScoredFiles {
    /// The metrics, with notes.
    pub scored: Scored,
    /// The duration of reading and of evaluating.
    pub times: ScoreTimes,
    /// The content of the annotation file.
    pub ground_truth: CocoDataset,
    /// The content of the results file.
    pub detections: Vec<CocoDetection>,
}

/// Computes COCO's metrics of a results file (`detections`) against an annotation file. Both files may be gzipped.
///
/// # Errors
/// - [`EvalError::File`] if a file cannot be read or does not follow the COCO format.
/// - [`EvalError::Pair`] with the error of [`score`] if the detections cannot be evaluated against the annotations.
pub fn score_files(annotations: &Path, detections: &Path) -> Result<ScoredFiles, EvalError> {
    let started = Instant::now();
    let ground_truth = CocoDataset::read(annotations)?;
    let results = read_results(detections)?;
    let read = started.elapsed();
    let scored = score(&ground_truth, &results).map_err(|source| EvalError::Pair {
        annotations: annotations.to_owned(),
        detections: detections.to_owned(),
        source: Box::new(source),
    })?;
    let times = ScoreTimes { read, evaluate: started.elapsed() - read };
    Ok(ScoredFiles { scored, times, ground_truth, detections: results })
}

/// Computes COCO's metrics of detections against a ground truth, both in memory, with notes for the user. Without
/// detections, the metrics are 0.
///
/// As in pycocotools, annotations whose image or category the ground truth does not list and detections of such
/// categories are ignored; a note gives their number.
///
/// # Errors
/// - [`EvalError::UnknownImage`] if a detection is on an image that the ground truth does not list.
/// - [`EvalError::AnnotationNotFinite`], [`EvalError::DetectionNotFinite`] if a box, area or score is not finite.
/// - [`EvalError::Engine`] if hotcoco reports an error.
pub fn score(ground_truth: &CocoDataset, detections: &[CocoDetection]) -> Result<Scored, EvalError> {
    let EvalInput { mut eval, ids, objects, notes } = EvalInput::new(ground_truth, detections)?;
    eval.evaluate()?;
    eval.accumulate();
    // The printing variant, `summarize`, would write to stdout.
    eval.summarize_lines();
    let stats = eval.stats().unwrap_or_default();
    let metric = |i: usize| stats.get(i).copied().unwrap_or(-1.0);
    let per_category = match eval.accumulated() {
        Some(accumulated) => ids.categories(accumulated, &objects),
        None => Vec::new(),
    };
    let metrics = Metrics {
        ap: metric(0),
        ap50: metric(1),
        ap75: metric(2),
        ap_small: metric(3),
        ap_medium: metric(4),
        ap_large: metric(5),
        ar1: metric(6),
        ar10: metric(7),
        ar100: metric(8),
        ar_small: metric(9),
        ar_medium: metric(10),
        ar_large: metric(11),
        per_category,
    };
    let near_zero = near_zero(ground_truth, detections, metrics.ap50);
    Ok(Scored { metrics, notes, near_zero })
}

/// Ground truth and detections in the types of hotcoco, not matched yet.
pub(crate) struct EvalInput {
    /// The evaluation of hotcoco, with ground truth and detections.
    pub(crate) eval: COCOeval,
    /// Maps between the ids of the files and those of hotcoco.
    pub(crate) ids: Ids,
    /// Number of objects of each category that has any, by the category id of the file.
    objects: HashMap<i64, usize>,
    notes: Vec<String>,
}

impl EvalInput {
    /// Converts a ground truth and detections to the types of hotcoco.
    ///
    /// # Errors
    /// The errors of [`score`]: a detection on an unknown image, a value that is not finite, or an error of hotcoco.
    pub(crate) fn new(ground_truth: &CocoDataset, detections: &[CocoDetection]) -> Result<Self, EvalError> {
        let ids = Ids::of(ground_truth);
        let mut notes = Vec::new();
        let (truth, objects) = truth_of(ground_truth, &ids, &mut notes)?;
        let found = detections_of(detections, &ids, &mut notes)?;
        let truth = COCO::from_dataset(truth);
        let found = truth.load_res_anns(found)?;
        Ok(Self { eval: COCOeval::new(truth, found, IouType::Bbox), ids, objects, notes })
    }
}

/// Maps from the ids of files (any `i64`) to the ids 1, 2, … of hotcoco (`u64`). The order of the ids is kept, because
/// it decides between equal scores of different images.
pub(crate) struct Ids {
    /// Image ids of hotcoco by the image ids of the file.
    pub(crate) images: HashMap<i64, u64>,
    categories: HashMap<i64, u64>,
    /// Names by category id; the first name if an id occurs twice.
    pub(crate) names: BTreeMap<i64, String>,
}

impl Ids {
    fn of(truth: &CocoDataset) -> Self {
        let number = |mut ids: Vec<i64>| -> HashMap<i64, u64> {
            ids.sort_unstable();
            ids.dedup();
            ids.into_iter().zip(1..).collect()
        };
        let mut names = BTreeMap::new();
        for category in &truth.categories {
            names.entry(category.id).or_insert_with(|| category.name.clone());
        }
        Ids {
            images: number(truth.images.iter().map(|i| i.id).collect()),
            categories: number(names.keys().copied().collect()),
            names,
        }
    }

    fn categories(&self, eval: &AccumulatedEval, objects: &HashMap<i64, usize>) -> Vec<CategoryMetrics> {
        let slots: HashMap<u64, usize> = eval.cat_ids.iter().copied().zip(0..).collect();
        self.names
            .iter()
            .map(|(&id, name)| {
                let slot = self.categories.get(&id).and_then(|n| slots.get(n)).copied();
                let mean = |ious| slot.map_or(-1.0, |slot| mean_precision(eval, ious, slot));
                CategoryMetrics {
                    id,
                    name: name.clone(),
                    ap: mean(0..eval.shape.t),
                    ap50: mean(IOU_50..IOU_50 + 1),
                    objects: objects.get(&id).copied().unwrap_or(0),
                }
            })
            .collect()
    }
}

/// Mean precision over the defined recall thresholds, or -1 if none is defined.
fn mean_precision(eval: &AccumulatedEval, ious: std::ops::Range<usize>, category: usize) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for iou in ious {
        for recall in 0..eval.shape.r {
            let value = eval.precision[eval.precision_idx(iou, recall, category, AREA_ALL, LIMIT_100)];
            if value >= 0.0 {
                sum += value;
                count += 1;
            }
        }
    }
    if count == 0 { -1.0 } else { sum / count as f64 }
}

/// Converts the ground truth to the types of hotcoco and counts the objects of each category.
fn truth_of(
    truth: &CocoDataset,
    ids: &Ids,
    notes: &mut Vec<String>,
) -> Result<(hotcoco::Dataset, HashMap<i64, usize>), EvalError> {
    let mut annotations = Vec::with_capacity(truth.annotations.len());
    let mut objects = HashMap::new();
    let mut seen = HashSet::with_capacity(truth.annotations.len());
    let (mut zero, mut repeated, mut left_out) = (false, 0usize, 0usize);
    for a in &truth.annotations {
        zero |= a.id == 0;
        repeated += usize::from(!seen.insert(a.id));
        let (Some(&image_id), Some(&category_id)) = (ids.images.get(&a.image_id), ids.categories.get(&a.category_id))
        else {
            left_out += 1;
            continue;
        };
        if !a.area.is_finite() || a.bbox.iter().any(|v| !v.is_finite()) {
            return Err(EvalError::AnnotationNotFinite { annotation_id: a.id, image_id: a.image_id });
        }
        *objects.entry(a.category_id).or_insert(0) += usize::from(!a.iscrowd);
        annotations.push(hotcoco::Annotation {
            id: annotations.len() as u64 + 1,
            image_id,
            category_id,
            bbox: Some(a.bbox),
            area: Some(a.area),
            iscrowd: a.iscrowd,
            ..Default::default()
        });
    }
    if zero {
        notes.push(
            "annotation ids were renumbered from 1: the ground truth has an annotation with id 0, and pycocotools \
             counts a detection that matches it as a false positive"
                .to_owned(),
        );
    }
    if repeated > 0 {
        notes.push(format!(
            "annotation ids were renumbered: {repeated} annotations of the ground truth have the id of an earlier one, \
             and pycocotools uses the last annotation with such an id in place of the others"
        ));
    }
    if left_out > 0 {
        notes.push(format!("ignored {left_out} annotations whose image or category the ground truth does not list"));
    }
    let images = (1..=ids.images.len() as u64).map(|id| hotcoco::Image { id, ..Default::default() }).collect();
    let categories = (1..=ids.names.len() as u64).map(category).collect();
    Ok((hotcoco::Dataset { images, annotations, categories, ..Default::default() }, objects))
}

/// A category of hotcoco. The name is not used, but hotcoco warns on stderr about an empty name.
fn category(id: u64) -> hotcoco::Category {
    hotcoco::Category { id, name: id.to_string(), ..Default::default() }
}

/// Converts the detections to the types of hotcoco. Their order is kept, because it decides between equal scores.
fn detections_of(
    detections: &[CocoDetection],
    ids: &Ids,
    notes: &mut Vec<String>,
) -> Result<Vec<hotcoco::Annotation>, EvalError> {
    let mut found = Vec::with_capacity(detections.len());
    let mut unknown: BTreeMap<i64, usize> = BTreeMap::new();
    for (index, d) in detections.iter().enumerate() {
        let Some(&image_id) = ids.images.get(&d.image_id) else {
            return Err(EvalError::UnknownImage { index, image_id: d.image_id, images: ids.images.len() });
        };
        if !d.score.is_finite() || d.bbox.iter().any(|v| !v.is_finite()) {
            return Err(EvalError::DetectionNotFinite { index, image_id: d.image_id });
        }
        let Some(&category_id) = ids.categories.get(&d.category_id) else {
            *unknown.entry(d.category_id).or_insert(0) += 1;
            continue;
        };
        found.push(hotcoco::Annotation {
            image_id,
            category_id,
            bbox: Some(d.bbox),
            score: Some(d.score),
            ..Default::default()
        });
    }
    if !unknown.is_empty() {
        let count: usize = unknown.values().sum();
        let named: Vec<String> = unknown.keys().take(10).map(|id| id.to_string()).collect();
        let more = if unknown.len() > named.len() { ", …" } else { "" };
        notes.push(format!(
            "ignored {count} detections whose category the ground truth does not list: {}{more}",
            named.join(", ")
        ));
    }
    Ok(found)
}
