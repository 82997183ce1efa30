//! Ground truth and detections into hotcoco, and its figures out.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    time::{Duration, Instant},
};

use foveal_coco::{CocoDataset, CocoDetection, read_results};
use hotcoco::{AccumulatedEval, COCO, COCOeval, IouType};

use crate::{CategoryMetrics, EvalError, Metrics, near_zero};

/// Index of IoU 0.50 among the ten thresholds.
const IOU_50: usize = 0;
/// Index of "all" among the four area ranges.
const AREA_ALL: usize = 0;
/// Index of 100 among the limits 1, 10, 100.
const LIMIT_100: usize = 2;

/// Figures, and what a reader of them should know.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The figures.
    pub metrics: Metrics,
    /// What was done to the input that may make another tool's figures differ; a line each.
    pub notes: Vec<String>,
    /// The likely reason where the figures are [near zero](near_zero).
    pub near_zero: Option<String>,
}

/// COCO's figures of detections in memory. An empty list gives zeros.
///
/// # Errors
/// As [`score`].
pub fn evaluate(ground_truth: &CocoDataset, detections: &[CocoDetection]) -> Result<Metrics, EvalError> {
    score(ground_truth, detections).map(|scored| scored.metrics)
}

/// How long scoring two files took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScoreTimes {
    /// Reading and parsing both.
    pub read: Duration,
    /// All that follows.
    pub evaluate: Duration,
}

/// COCO's figures of a results file; both files may be gzipped.
///
/// # Errors
/// [`EvalError::File`] for a file that is not what it should be (`images`, `annotations` or
/// `categories` missing, wrong types), [`EvalError::Pair`] with the errors of [`score`].
pub fn score_files(annotations: &Path, detections: &Path) -> Result<Scored, EvalError> {
    score_files_timed(annotations, detections).map(|(scored, _)| scored)
}

/// As [`score_files`], and how long it took.
///
/// # Errors
/// As [`score_files`].
pub fn score_files_timed(annotations: &Path, detections: &Path) -> Result<(Scored, ScoreTimes), EvalError> {
    let started = Instant::now();
    let ground_truth = CocoDataset::read(annotations)?;
    let results = read_results(detections)?;
    let read = started.elapsed();
    let scored = score(&ground_truth, &results).map_err(|source| EvalError::Pair {
        annotations: annotations.to_owned(),
        detections: detections.to_owned(),
        source: Box::new(source),
    })?;
    Ok((scored, ScoreTimes { read, evaluate: started.elapsed() - read }))
}

/// As [`evaluate`], with notes.
///
/// Annotations on images or of categories that the ground truth does not list, and detections of
/// such categories, are left out, as pycocotools does; a note says so.
///
/// # Errors
/// [`EvalError::UnknownImage`], [`EvalError::AnnotationNotFinite`],
/// [`EvalError::DetectionNotFinite`].
pub fn score(ground_truth: &CocoDataset, detections: &[CocoDetection]) -> Result<Scored, EvalError> {
    let Prepared { mut eval, ids, objects, notes } = Prepared::new(ground_truth, detections)?;
    eval.evaluate()?;
    eval.accumulate();
    // The printing variant, `summarize`, would write to stdout.
    eval.summarize_lines();
    let stats = eval.stats().unwrap_or_default();
    let figure = |i: usize| stats.get(i).copied().unwrap_or(-1.0);
    let per_category = match eval.accumulated() {
        Some(accumulated) => ids.categories(accumulated, &objects),
        None => Vec::new(),
    };
    let metrics = Metrics {
        ap: figure(0),
        ap50: figure(1),
        ap75: figure(2),
        ap_small: figure(3),
        ap_medium: figure(4),
        ap_large: figure(5),
        ar1: figure(6),
        ar10: figure(7),
        ar100: figure(8),
        ar_small: figure(9),
        ar_medium: figure(10),
        ar_large: figure(11),
        per_category,
    };
    let near_zero = near_zero(ground_truth, detections, metrics.ap50);
    Ok(Scored { metrics, notes, near_zero })
}

/// Ground truth and detections as hotcoco has them, not yet matched.
pub(crate) struct Prepared {
    pub(crate) eval: COCOeval,
    pub(crate) ids: Ids,
    /// Objects of each category that has any, by the file's id.
    objects: HashMap<i64, usize>,
    notes: Vec<String>,
}

impl Prepared {
    /// # Errors
    /// As [`score`].
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

/// Ids as files have them (any `i64`) to 1, 2, … as hotcoco wants them (`u64`). The order is
/// kept: score ties between images are broken by it.
pub(crate) struct Ids {
    pub(crate) images: HashMap<i64, u64>,
    categories: HashMap<i64, u64>,
    /// By ascending id; the first name of an id that stands twice.
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

/// Mean over the recall thresholds that are defined, or -1.
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

/// The ground truth as hotcoco has it, and the number of objects of each category.
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
             counts a match to id 0 as a false alarm"
                .to_owned(),
        );
    }
    if repeated > 0 {
        notes.push(format!(
            "annotation ids were renumbered: {repeated} of the ground truth's stand more than once, and pycocotools \
             takes the last of them for all"
        ));
    }
    if left_out > 0 {
        notes.push(format!(
            "left out {left_out} annotations on images or of categories that the ground truth does not list"
        ));
    }
    let images = (1..=ids.images.len() as u64).map(|id| hotcoco::Image { id, ..Default::default() }).collect();
    let categories = (1..=ids.names.len() as u64).map(category).collect();
    Ok((hotcoco::Dataset { images, annotations, categories, ..Default::default() }, objects))
}

/// The name is not used, but hotcoco warns on stderr of one that is empty.
fn category(id: u64) -> hotcoco::Category {
    hotcoco::Category { id, name: id.to_string(), ..Default::default() }
}

/// The detections as hotcoco has them, in the given order, which breaks score ties.
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
            "left out {count} detections of categories that the ground truth does not list: {}{more}",
            named.join(", ")
        ));
    }
    Ok(found)
}
