//! COCO's metrics on resampled images, for bootstrap intervals.
//!
//! The matching of detections with objects in one image does not depend on other images. So all images are matched
//! once, and a resample only changes how often the detections and objects of each image count. hotcoco's own bootstrap
//! ignores how often an image was drawn, which evaluates subsets of about 63 % of the images; this one counts repeated
//! images.

use std::collections::HashMap;

use foveal_coco::{CocoDataset, CocoDetection};

use crate::engine::EvalInput;
use crate::{EvalError, SizeBand};

/// Detections of a data set, matched with its objects. [`Matched::metrics`] and [`Matched::values`] compute metrics of
/// resampled images from it.
#[derive(Clone, Debug)]
pub struct Matched {
    images: Vec<i64>,
    /// Ids of the categories in ascending order.
    categories: Vec<i64>,
    recalls: Vec<f64>,
    ious: usize,
    /// The matches with objects of all sizes, then those of each size band. Each entry has one item for each category.
    sizes: Vec<Vec<Category>>,
    /// Number of objects of each image, without crowd regions, in ascending order of the image ids.
    objects: Vec<usize>,
}

/// The matched detections and the objects of one category in all images.
#[derive(Clone, Debug, Default)]
pub(crate) struct Category {
    /// Detections in descending order of score, without those that are ignored at every IoU threshold.
    pub(crate) detections: Vec<Ranked>,
    /// Number of detections up to the last one that matches an object at any IoU threshold. The others change neither
    /// AP nor AR.
    used: usize,
    /// Index of each image with objects that are not ignored, and their number.
    objects: Vec<(usize, usize)>,
}

impl Category {
    /// Number of objects in all images.
    pub(crate) fn object_count(&self) -> usize {
        self.objects.iter().map(|&(_, count)| count).sum()
    }
}

/// A detection; `matched` and `ignored` have one bit for each IoU threshold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    image: u32,
    /// Number of detections of this category in the same image with a higher score.
    rank: u32,
    pub(crate) score: f64,
    matched: u32,
    ignored: u32,
}

impl Ranked {
    /// Whether the detection matches an object at the IoU threshold with this index; `None` if it is ignored.
    pub(crate) fn hit(&self, iou: usize) -> Option<bool> {
        (self.ignored >> iou & 1 == 0).then_some(self.matched >> iou & 1 == 1)
    }
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

/// The metrics of the objects of one category and of one range of sizes, as fractions from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassValues {
    /// Average precision, the mean over the IoU thresholds 0.50, 0.55, …, 0.95.
    pub ap: f64,
    /// Average precision at an IoU threshold of 0.50.
    pub ap50: f64,
    /// Average precision at an IoU threshold of 0.75.
    pub ap75: f64,
    /// Average recall with at most 1, 10 and 100 detections per image and category, the mean over the IoU thresholds.
    pub ar: [f64; 3],
}

/// Limits of the number of detections per image and category, of the three values of [`ClassValues::ar`].
const LIMITS: [u32; 3] = [1, 10, 100];
/// hotcoco's label of the size range that contains objects of all areas.
const ALL_AREAS: &str = "all";
/// Index of IoU 0.75 among the ten IoU thresholds.
const IOU_75: usize = 5;

impl Matched {
    /// Matches detections with the objects of a ground truth by COCO's rules.
    ///
    /// # Errors
    /// - [`EvalError::UnknownImage`] if a detection is on an image that the ground truth does not list.
    /// - [`EvalError::AnnotationNotFinite`], [`EvalError::DetectionNotFinite`] if a box, area or score is not finite.
    /// - [`EvalError::Engine`] if hotcoco reports an error.
    pub fn new(ground_truth: &CocoDataset, detections: &[CocoDetection]) -> Result<Self, EvalError> {
        Self::with_sizes(ground_truth, detections, &[])
    }

    /// Matches detections with the objects of a ground truth by COCO's rules: with the objects of all sizes, and with
    /// those of each size band.
    ///
    /// # Errors
    /// - [`EvalError::UnknownImage`] if a detection is on an image that the ground truth does not list.
    /// - [`EvalError::AnnotationNotFinite`], [`EvalError::DetectionNotFinite`] if a box, area or score is not finite.
    /// - [`EvalError::Engine`] if hotcoco reports an error.
    pub fn with_sizes(
        ground_truth: &CocoDataset,
        detections: &[CocoDetection],
        sizes: &[SizeBand],
    ) -> Result<Self, EvalError> {
        let EvalInput { mut eval, ids, .. } = EvalInput::new(ground_truth, detections)?;
        let ranges = &mut eval.params.area_ranges;
        ranges.retain(|range| range.label == ALL_AREAS);
        // Two bands with the same limits share one range, because hotcoco's results name only the limits.
        let mut place = |band: &SizeBand| {
            let limits = [band.min_area, band.max_area];
            ranges.iter().position(|known| known.range == limits).unwrap_or_else(|| {
                ranges.push(hotcoco::AreaRange { label: band.label.clone(), range: limits });
                ranges.len() - 1
            })
        };
        let places: Vec<usize> = [0].into_iter().chain(sizes.iter().map(&mut place)).collect();
        eval.evaluate()?;
        let mut images: Vec<i64> = ids.images.keys().copied().collect();
        images.sort_unstable();
        // hotcoco's ids are 1, 2, … in the order of the ids in the file.
        let categories: Vec<i64> = ids.names.keys().copied().collect();
        let ious = eval.params.iou_thrs.len();
        let ranges = &eval.params.area_ranges;
        let mut found = vec![vec![Category::default(); categories.len()]; ranges.len()];
        let mut results: Vec<_> = eval.eval_imgs().iter().flatten().collect();
        // Among equal scores of different images, the lower image id comes first.
        results.sort_by_key(|result| result.image_id);
        let every_iou = (1u32 << ious) - 1;
        for result in results {
            let image = result.image_id as usize - 1;
            let bits = |flags: &hotcoco::ThreshMatrix<bool>, detection: usize| -> u32 {
                (0..ious).map(|t| u32::from(flags[(t, detection)]) << t).sum()
            };
            let ranked: Vec<Ranked> = (0..result.dt_scores.len())
                .map(|d| Ranked {
                    image: image as u32,
                    rank: d as u32,
                    score: result.dt_scores[d],
                    matched: bits(&result.dt_matched, d),
                    ignored: bits(&result.dt_ignore, d),
                })
                .filter(|ranked| ranked.ignored != every_iou)
                .collect();
            let objects = result.num_gt_in_denominator();
            let Some(range) = ranges.iter().position(|range| range.range == result.area_rng) else { continue };
            let category = &mut found[range][result.category_id as usize - 1];
            category.detections.extend(&ranked);
            if objects > 0 {
                category.objects.push((image, objects));
            }
        }
        for category in found.iter_mut().flatten() {
            category.detections.sort_by(|a, b| b.score.total_cmp(&a.score));
            let last = category.detections.iter().rposition(|d| d.matched & !d.ignored != 0);
            // The last matching detection may share its score with others of its image.
            category.used = last.map_or(0, |last| {
                let rest = category.detections[last..].iter();
                last + rest.take_while(|d| equal(d, &category.detections[last])).count()
            });
        }
        let index: HashMap<i64, usize> = images.iter().copied().zip(0..).collect();
        let mut objects = vec![0; images.len()];
        for annotation in ground_truth.annotations.iter().filter(|a| !a.iscrowd) {
            if let Some(&image) = index.get(&annotation.image_id) {
                objects[image] += usize::from(ids.names.contains_key(&annotation.category_id));
            }
        }
        let sizes = places.into_iter().map(|place| found[place].clone()).collect();
        Ok(Self { images, categories, recalls: eval.params.rec_thrs.clone(), ious, sizes, objects })
    }

    /// The ids of all images of the ground truth, in ascending order.
    pub fn images(&self) -> &[i64] {
        &self.images
    }

    /// The ids of all categories of the ground truth, in ascending order.
    pub fn categories(&self) -> Vec<i64> {
        self.categories.clone()
    }

    /// The number of objects in each image, without crowd regions, in ascending order of the image ids.
    pub fn objects(&self) -> &[usize] {
        &self.objects
    }

    /// The number of objects of all categories: of all sizes for index 0, then of each size band.
    pub(crate) fn object_count(&self, size: usize) -> usize {
        self.sizes[size].iter().map(Category::object_count).sum()
    }

    /// COCO's recall thresholds: 0, 0.01, …, 1.
    pub(crate) fn recalls(&self) -> &[f64] {
        &self.recalls
    }

    /// The matches of each category with objects of all sizes, in ascending order of the category ids.
    pub(crate) fn of_all_sizes(&self) -> &[Category] {
        &self.sizes[0]
    }

    /// Computes the metrics of a data set that contains image `i` of [`Matched::images`] `counts[i]` times.
    ///
    /// # Shapes
    /// - counts: `[images]`, in ascending order of the image ids
    ///
    /// # Panics
    /// If there is not one count for each image.
    pub fn metrics(&self, counts: &[u32]) -> Resampled {
        let each = self.values(counts).swap_remove(0);
        Resampled {
            ap: mean(&each, |c| c.ap),
            ap50: mean(&each, |c| c.ap50),
            ar100: mean(&each, |c| c.ar[2]),
            per_category: each.iter().map(|c| c.map(|c| c.ap)).collect(),
        }
    }

    /// Computes the metrics of each category on a data set that contains image `i` of [`Matched::images`] `counts[i]`
    /// times; `None` for a category without objects in it.
    ///
    /// # Shapes
    /// - counts: `[images]`, in ascending order of the image ids
    /// - result: `[1 + size bands, categories]`: objects of all sizes, then those of each size band
    ///
    /// # Panics
    /// If there is not one count for each image.
    pub fn values(&self, counts: &[u32]) -> Vec<Vec<Option<ClassValues>>> {
        assert_eq!(counts.len(), self.images.len(), "expected one count for each image");
        let mut room = Room::default();
        self.sizes.iter().map(|size| size.iter().map(|c| self.category(c, counts, &mut room)).collect()).collect()
    }

    fn category(&self, category: &Category, counts: &[u32], room: &mut Room) -> Option<ClassValues> {
        let objects: usize = category.objects.iter().map(|&(image, n)| n * counts[image] as usize).sum();
        if objects == 0 {
            return None;
        }
        let Room { steps, curve } = room;
        steps.clear();
        // Among equal scores, the copies of an image follow each other, as in a data set with that many copies. Copies
        // of a single detection are one step, because only the last of them lies on the curve's envelope.
        for run in category.detections[..category.used].chunk_by(equal) {
            let count = counts[run[0].image as usize];
            match run {
                [one] if count > 0 => steps.push((*one, count)),
                [_] => {}
                many => (0..count).for_each(|_| steps.extend(many.iter().map(|d| (*d, 1)))),
            }
        }
        let mut values = ClassValues::default();
        let share = 1.0 / self.ious as f64;
        for iou in 0..self.ious {
            curve.clear();
            let (mut hits, mut misses, mut limited) = (0, 0, [0u32; 3]);
            for (detection, count) in steps.iter() {
                match detection.hit(iou) {
                    None => {}
                    Some(false) => misses += count,
                    Some(true) => {
                        hits += count;
                        curve.push((f64::from(hits), f64::from(hits) / f64::from(hits + misses)));
                        for (found, limit) in limited.iter_mut().zip(LIMITS) {
                            *found += if detection.rank < limit { *count } else { 0 };
                        }
                    }
                }
            }
            let ap = average_precision(curve, objects, &self.recalls);
            values.ap += ap * share;
            for (recall, found) in values.ar.iter_mut().zip(limited) {
                *recall += f64::from(found) / objects as f64 * share;
            }
            match iou {
                0 => values.ap50 = ap,
                IOU_75 => values.ap75 = ap,
                _ => {}
            }
        }
        Some(values)
    }
}

/// Memory that the computation of one category leaves to the next.
#[derive(Default)]
struct Room {
    steps: Vec<(Ranked, u32)>,
    curve: Vec<(f64, f64)>,
}

/// Whether two neighbours in the order of scores are copied together when their image is drawn several times.
fn equal(a: &Ranked, b: &Ranked) -> bool {
    a.image == b.image && a.score == b.score
}

/// COCO's average precision of the curve of (number of true positives, precision) at the true positives, in descending
/// order of score. `curve` is overwritten by its envelope.
pub(crate) fn average_precision(curve: &mut [(f64, f64)], objects: usize, recalls: &[f64]) -> f64 {
    let mut best = 0.0f64;
    for (_, precision) in curve.iter_mut().rev() {
        best = best.max(*precision);
        *precision = best;
    }
    let (mut at, mut sum) = (0, 0.0);
    for recall in recalls {
        while at < curve.len() && curve[at].0 / (objects as f64) < *recall {
            at += 1;
        }
        let Some((_, precision)) = curve.get(at) else { break };
        sum += precision;
    }
    sum / recalls.len() as f64
}

/// The mean of a metric over the categories that have objects; `None` if there are none.
pub(crate) fn mean(each: &[Option<ClassValues>], of: impl Fn(&ClassValues) -> f64) -> Option<f64> {
    let values: Vec<f64> = each.iter().flatten().map(of).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
