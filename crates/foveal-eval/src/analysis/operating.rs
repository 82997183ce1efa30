//! Score thresholds of a class and the precision and recall that they give.

use serde::Serialize;

use crate::resample::Category;

/// Index of IoU 0.50 among the IoU thresholds.
const IOU_50: usize = 0;

/// A score threshold with what the detections at or above it achieve at an IoU of 0.5.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct OperatingPoint {
    /// Lowest score of the detections that are kept.
    pub threshold: f64,
    /// Fraction of the kept detections that match an object.
    pub precision: f64,
    /// Fraction of the objects that a kept detection matches.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
}

/// How the score threshold of a class is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ThresholdRule {
    /// The highest F1; of equal ones that with the highest score.
    BestF1,
    /// The lowest score at which the precision has at least this value, from 0 to 1.
    Precision(f64),
}

impl OperatingPoint {
    fn new(threshold: f64, hits: usize, kept: usize, objects: usize) -> Self {
        let fraction = |a: f64, b: usize| if b == 0 { 0.0 } else { a / b as f64 };
        Self {
            threshold,
            precision: fraction(hits as f64, kept),
            recall: fraction(hits as f64, objects),
            f1: fraction(2.0 * hits as f64, kept + objects),
        }
    }
}

/// The operating points of a class at each of its scores, in descending order of score. Detections with equal scores
/// make one point.
pub(crate) fn operating_points(category: &Category) -> Vec<OperatingPoint> {
    let objects = category.object_count();
    let (mut hits, mut kept) = (0, 0);
    let counted: Vec<(f64, bool)> =
        category.detections.iter().filter_map(|d| Some((d.score, d.hit(IOU_50)?))).collect();
    counted
        .chunk_by(|a, b| a.0 == b.0)
        .map(|run| {
            kept += run.len();
            hits += run.iter().filter(|(_, hit)| *hit).count();
            OperatingPoint::new(run[0].0, hits, kept, objects)
        })
        .collect()
}

/// Chooses one of the operating points of a class; `None` if no threshold satisfies the rule or nothing is found at
/// all.
pub(crate) fn choose(points: &[OperatingPoint], rule: ThresholdRule) -> Option<OperatingPoint> {
    match rule {
        ThresholdRule::BestF1 => {
            let better = |best: Option<OperatingPoint>, point: &OperatingPoint| {
                if point.f1 > best.map_or(0.0, |best| best.f1) { Some(*point) } else { best }
            };
            points.iter().fold(None, better)
        }
        ThresholdRule::Precision(wanted) => {
            points.iter().rfind(|point| point.precision >= wanted && point.recall > 0.0).copied()
        }
    }
}

/// Precision, recall and F1 of the detections with at least each of the scores, which must ascend.
///
/// # Shapes
/// - result: `[scores]`
pub(crate) fn at_scores(category: &Category, scores: &[f64]) -> Vec<OperatingPoint> {
    let points = operating_points(category);
    let objects = category.object_count();
    scores
        .iter()
        .map(|&score| {
            let kept = points.partition_point(|point| point.threshold >= score);
            match kept.checked_sub(1) {
                Some(last) => OperatingPoint { threshold: score, ..points[last] },
                None => OperatingPoint::new(score, 0, 0, objects),
            }
        })
        .collect()
}
