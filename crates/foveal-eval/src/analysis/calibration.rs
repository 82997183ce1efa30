//! Whether scores are probabilities.

use hotcoco::metrics::calibration::{calibration_curve, calibration_error, scores_in_unit_interval};
use serde::Serialize;

use crate::resample::{Category, Matched};

/// Number of bins of equal width between scores 0 and 1.
const BINS: usize = 10;
/// Index of IoU 0.50 among the IoU thresholds.
const IOU_50: usize = 0;

/// How well the score of a detection tells the probability that it matches an object at an IoU of 0.5. Detections on
/// crowd regions are left out. Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 2.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error: the mean over all detections of the difference between accuracy and mean score of
    /// their bin.
    pub ece: f64,
    /// Maximum calibration error: the largest difference between accuracy and mean score of a bin.
    pub mce: f64,
    /// Number of detections.
    pub detections: usize,
    /// The reliability diagram: ten bins of equal width.
    pub bins: Vec<CalibrationBin>,
    /// Expected calibration error of each category that has detections, in ascending order of the ids.
    pub per_category: Vec<CategoryCalibration>,
}

/// The detections with a score from `low` to below `high`; the last bin includes score 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Lowest score.
    pub low: f64,
    /// End of the scores.
    pub high: f64,
    /// Number of detections.
    pub count: usize,
    /// Mean score; 0 without detections.
    pub score: f64,
    /// Fraction of the detections that match an object at an IoU of 0.5; 0 without detections.
    pub accuracy: f64,
}

/// The calibration error of one category.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CategoryCalibration {
    /// Id of the category.
    pub id: i64,
    /// Expected calibration error.
    pub ece: f64,
}

impl Calibration {
    /// Computes the calibration; `None` if a score is not in 0 to 1 or there are no detections.
    pub(crate) fn new(matched: &Matched) -> Option<Self> {
        let each: Vec<(Vec<f64>, Vec<bool>)> = matched.of_all_sizes().iter().map(outcomes).collect();
        let scores: Vec<f64> = each.iter().flat_map(|(scores, _)| scores).copied().collect();
        let hits: Vec<bool> = each.iter().flat_map(|(_, hits)| hits).copied().collect();
        if scores.is_empty() || scores_in_unit_interval(&scores).is_err() {
            return None;
        }
        let bins = calibration_curve(&scores, &hits, BINS);
        let (ece, mce) = calibration_error(&bins);
        let per_category = matched
            .categories()
            .into_iter()
            .zip(&each)
            .filter(|(_, (scores, _))| !scores.is_empty())
            .map(|(id, (scores, hits))| CategoryCalibration {
                id,
                ece: calibration_error(&calibration_curve(scores, hits, BINS)).0,
            })
            .collect();
        let bins = bins
            .into_iter()
            .map(|bin| CalibrationBin {
                low: bin.bin_lower,
                high: bin.bin_upper,
                count: bin.count,
                score: bin.avg_confidence,
                accuracy: bin.avg_accuracy,
            })
            .collect();
        Some(Self { ece, mce, detections: scores.len(), bins, per_category })
    }
}

fn outcomes(category: &Category) -> (Vec<f64>, Vec<bool>) {
    category.detections.iter().filter_map(|d| Some((d.score, d.hit(IOU_50)?))).unzip()
}
