//! COCO's metrics on resampled images, for bootstrap intervals.
//!
//! The matching of detections with objects in one image does not depend on other images. So all images are matched
//! once, and a resample only changes how often the detections and objects of each image count. hotcoco's own bootstrap
//! ignores how often an image was drawn, which evaluates subsets of about 63 % of the images; this one counts repeated
//! images.

use foveal_coco::{CocoDataset, CocoDetection};
use hotcoco::metrics::counts::{PrCurveScratch, precision_recall_curve_into};

use crate::EvalError;
use crate::engine::EvalInput;

/// Detections of a data set, matched with its objects. [`Matched::metrics`] computes metrics of resampled images from
/// it.
#[derive(Clone, Debug)]
pub struct Matched {
    images: Vec<i64>,
    categories: Vec<Category>,
    recalls: Vec<f64>,
    ious: usize,
}

/// The matched detections and the objects of one category in all images.
#[derive(Clone, Debug, Default)]
struct Category {
    id: i64,
    /// Detections in descending order of score.
    detections: Vec<Ranked>,
    /// Index of each image with objects that are not ignored, and their number.
    objects: Vec<(usize, usize)>,
}

/// A detection; `matched` and `ignored` have one bit for each IoU threshold.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    image: usize,
    score: f64,
    matched: u32,
    ignored: u32,
}

/// Metrics of resampled images, as fractions from 0 to 1. A metric is `None` if it is undefined because the resampled
/// images contain no object for it (crowd regions are not objects).
#[derive(Clone, Debug, PartialEq)]
pub struct Resampled {
    /// Average precision (AP), the mean over the IoU thresholds 0.50, 0.55, …, 0.95 and the categories.
    pub ap: Option<f64>,
    /// Average precision at an IoU threshold of 0.50 (AP50), the mean over the categories.
    pub ap50: Option<f64>,
    /// Average recall with at most 100 detections per image and category (AR100), the mean over the IoU thresholds and
    /// the categories.
    pub ar100: Option<f64>,
    /// Average precision of each category, the mean over the IoU thresholds, in ascending order of the category ids.
    pub per_category: Vec<Option<f64>>,
}

/// hotcoco's label of the size range that contains objects of all areas.
const ALL_AREAS: &str = "all";

impl Matched {
    /// Matches detections with the objects of a ground truth by COCO's rules.
    ///
    /// # Errors
    /// - [`EvalError::UnknownImage`] if a detection is on an image that the ground truth does not list.
    /// - [`EvalError::AnnotationNotFinite`], [`EvalError::DetectionNotFinite`] if a box, area or score is not finite.
    /// - [`EvalError::Engine`] if hotcoco reports an error.
    pub fn new(ground_truth: &CocoDataset, detections: &[CocoDetection]) -> Result<Self, EvalError> {
        let EvalInput { mut eval, ids, .. } = EvalInput::new(ground_truth, detections)?;
        eval.params.area_ranges.retain(|range| range.label == ALL_AREAS);
        eval.evaluate()?;
        let mut images: Vec<i64> = ids.images.keys().copied().collect();
        images.sort_unstable();
        // hotcoco's ids are 1, 2, … in the order of the ids in the file.
        let mut categories: Vec<Category> =
            ids.names.keys().map(|&id| Category { id, ..Category::default() }).collect();
        let ious = eval.params.iou_thrs.len();
        let mut results: Vec<_> = eval.eval_imgs().iter().flatten().collect();
        // Among equal scores of different images, the lower image id comes first.
        results.sort_by_key(|result| result.image_id);
        for result in results {
            let (image, category) = (result.image_id as usize - 1, &mut categories[result.category_id as usize - 1]);
            let bits = |flags: &hotcoco::ThreshMatrix<bool>, detection: usize| -> u32 {
                (0..ious).map(|t| u32::from(flags[(t, detection)]) << t).sum()
            };
            category.detections.extend(result.dt_scores.iter().enumerate().map(|(d, &score)| Ranked {
                image,
                score,
                matched: bits(&result.dt_matched, d),
                ignored: bits(&result.dt_ignore, d),
            }));
            let objects = result.num_gt_in_denominator();
            if objects > 0 {
                category.objects.push((image, objects));
            }
        }
        for category in &mut categories {
            category.detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        }
        Ok(Self { images, categories, recalls: eval.params.rec_thrs.clone(), ious })
    }

    /// The ids of all images of the ground truth, in ascending order.
    pub fn images(&self) -> &[i64] {
        &self.images
    }

    /// The ids of all categories of the ground truth, in ascending order.
    pub fn categories(&self) -> Vec<i64> {
        self.categories.iter().map(|category| category.id).collect()
    }

    /// Computes the metrics of a data set that contains image `i` of [`Matched::images`] `counts[i]` times.
    ///
    /// # Shapes
    /// - counts: `[images]`, in ascending order of the image ids
    ///
    /// # Panics
    /// If there is not one count for each image.
    pub fn metrics(&self, counts: &[u32]) -> Resampled {
        assert_eq!(counts.len(), self.images.len(), "expected one count for each image");
        let each: Vec<Option<CategoryValues>> =
            self.categories.iter().map(|category| self.category(category, counts)).collect();
        let mean = |of: fn(&CategoryValues) -> f64| {
            let values: Vec<f64> = each.iter().flatten().map(of).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Resampled {
            ap: mean(|c| c.ap),
            ap50: mean(|c| c.ap50),
            ar100: mean(|c| c.recall),
            per_category: each.iter().map(|c| c.as_ref().map(|c| c.ap)).collect(),
        }
    }

    fn category(&self, category: &Category, counts: &[u32]) -> Option<CategoryValues> {
        let objects: usize = category.objects.iter().map(|&(image, n)| n * counts[image] as usize).sum();
        if objects == 0 {
            return None;
        }
        // Among equal scores, the copies of an image follow each other, as in a data set with that many copies.
        let equal = |a: &Ranked, b: &Ranked| a.image == b.image && a.score == b.score;
        let drawn: Vec<&Ranked> = category
            .detections
            .chunk_by(equal)
            .flat_map(|run| std::iter::repeat_n(run, counts[run[0].image] as usize).flatten())
            .collect();
        let (mut tp, mut fp) = (Vec::with_capacity(drawn.len()), Vec::with_capacity(drawn.len()));
        let (mut scratch, mut curve) = (PrCurveScratch::default(), Vec::new());
        let mut values = CategoryValues::default();
        for iou in 0..self.ious {
            tp.clear();
            fp.clear();
            let (mut hits, mut misses) = (0.0, 0.0);
            for detection in &drawn {
                if detection.ignored >> iou & 1 == 0 {
                    *(if detection.matched >> iou & 1 == 1 { &mut hits } else { &mut misses }) += 1.0;
                }
                tp.push(hits);
                fp.push(misses);
            }
            let recall = precision_recall_curve_into(&tp, &fp, objects, &self.recalls, &mut scratch, &mut curve);
            let ap = curve.iter().map(|(_, precision, _)| precision).sum::<f64>() / self.recalls.len() as f64;
            values.ap += ap / self.ious as f64;
            values.recall += recall / self.ious as f64;
            if iou == 0 {
                values.ap50 = ap;
            }
        }
        Some(values)
    }
}

/// The metrics of one category.
#[derive(Clone, Copy, Debug, Default)]
struct CategoryValues {
    ap: f64,
    ap50: f64,
    recall: f64,
}
