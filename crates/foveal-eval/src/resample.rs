//! COCO's figures on resampled images: for bootstrap intervals.
//!
//! Detections are matched with objects image by image, whatever other images there are. So they are matched once;
//! what a resample changes is how often an image's detections and objects count. hotcoco's own bootstrap leaves the
//! multiplicity of a draw out and thereby takes subsets of 63 % of the images; this one keeps it.

use foveal_coco::{CocoDataset, CocoDetection};
use hotcoco::metrics::counts::{PrCurveScratch, precision_recall_curve_into};

use crate::EvalError;
use crate::engine::Prepared;

/// Detections matched with the objects of a set.
#[derive(Clone, Debug)]
pub struct Matched {
    images: Vec<i64>,
    categories: Vec<Category>,
    recalls: Vec<f64>,
    ious: usize,
}

/// One category over all images.
#[derive(Clone, Debug, Default)]
struct Category {
    id: i64,
    /// Best first.
    detections: Vec<Ranked>,
    /// Images with objects that count: index and number.
    objects: Vec<(usize, usize)>,
}

/// A detection: a bit for each IoU threshold.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    image: usize,
    score: f64,
    matched: u32,
    ignored: u32,
}

/// Figures of a resample, fractions; `None` where COCO leaves a figure undefined (no object that counts).
#[derive(Clone, Debug, PartialEq)]
pub struct Resampled {
    /// Average precision, mean over IoU 0.50:0.05:0.95 and classes.
    pub ap: Option<f64>,
    /// Average precision at IoU 0.50.
    pub ap50: Option<f64>,
    /// Average recall with a hundred detections an image and class.
    pub ar100: Option<f64>,
    /// Average precision of each category, by ascending id.
    pub per_category: Vec<Option<f64>>,
}

/// Label of the range that takes in objects of all areas.
const ALL_AREAS: &str = "all";

impl Matched {
    /// Matches detections with a ground truth, as COCO does.
    ///
    /// # Errors
    /// As [`crate::score`].
    pub fn new(ground_truth: &CocoDataset, detections: &[CocoDetection]) -> Result<Self, EvalError> {
        let Prepared { mut eval, ids, .. } = Prepared::new(ground_truth, detections)?;
        eval.params.area_ranges.retain(|range| range.label == ALL_AREAS);
        eval.evaluate()?;
        let mut images: Vec<i64> = ids.images.keys().copied().collect();
        images.sort_unstable();
        // hotcoco's ids are 1, 2, … in the order of the file's.
        let mut categories: Vec<Category> =
            ids.names.keys().map(|&id| Category { id, ..Category::default() }).collect();
        let ious = eval.params.iou_thrs.len();
        let mut cells: Vec<_> = eval.eval_imgs().iter().flatten().collect();
        // Ties between images are broken by the images' ids.
        cells.sort_by_key(|cell| cell.image_id);
        for cell in cells {
            let (image, category) = (cell.image_id as usize - 1, &mut categories[cell.category_id as usize - 1]);
            let bits = |flags: &hotcoco::ThreshMatrix<bool>, detection: usize| -> u32 {
                (0..ious).map(|t| u32::from(flags[(t, detection)]) << t).sum()
            };
            category.detections.extend(cell.dt_scores.iter().enumerate().map(|(d, &score)| Ranked {
                image,
                score,
                matched: bits(&cell.dt_matched, d),
                ignored: bits(&cell.dt_ignore, d),
            }));
            let objects = cell.num_gt_in_denominator();
            if objects > 0 {
                category.objects.push((image, objects));
            }
        }
        for category in &mut categories {
            category.detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        }
        Ok(Self { images, categories, recalls: eval.params.rec_thrs.clone(), ious })
    }

    /// The ids of all images, ascending.
    pub fn images(&self) -> &[i64] {
        &self.images
    }

    /// The ids of all categories, ascending.
    pub fn categories(&self) -> Vec<i64> {
        self.categories.iter().map(|category| category.id).collect()
    }

    /// The figures of a set in which image `i` of [`Matched::images`] stands `counts[i]` times.
    ///
    /// # Panics
    /// If there is not one count for each image.
    pub fn figures(&self, counts: &[u32]) -> Resampled {
        assert_eq!(counts.len(), self.images.len(), "a count for each image");
        let each: Vec<Option<CategoryFigures>> =
            self.categories.iter().map(|category| self.category(category, counts)).collect();
        let mean = |of: fn(&CategoryFigures) -> f64| {
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

    fn category(&self, category: &Category, counts: &[u32]) -> Option<CategoryFigures> {
        let objects: usize = category.objects.iter().map(|&(image, n)| n * counts[image] as usize).sum();
        if objects == 0 {
            return None;
        }
        // Copies of an image follow each other among equal scores, as in a set in which the image stands so often.
        let equal = |a: &Ranked, b: &Ranked| a.image == b.image && a.score == b.score;
        let drawn: Vec<&Ranked> = category
            .detections
            .chunk_by(equal)
            .flat_map(|run| std::iter::repeat_n(run, counts[run[0].image] as usize).flatten())
            .collect();
        let (mut tp, mut fp) = (Vec::with_capacity(drawn.len()), Vec::with_capacity(drawn.len()));
        let (mut scratch, mut curve) = (PrCurveScratch::default(), Vec::new());
        let mut figures = CategoryFigures::default();
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
            figures.ap += ap / self.ious as f64;
            figures.recall += recall / self.ious as f64;
            if iou == 0 {
                figures.ap50 = ap;
            }
        }
        Some(figures)
    }
}

/// One category's figures.
#[derive(Clone, Copy, Debug, Default)]
struct CategoryFigures {
    ap: f64,
    ap50: f64,
    recall: f64,
}
