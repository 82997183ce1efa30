//! Curves of precision, recall and F1.

use serde::Serialize;

use super::operating::at_scores;
use crate::resample::{Category, Matched};

/// Number of scores at which curves are given: 0, 0.01, …, 1.
const SCORES: usize = 101;

/// The curves of the categories that have objects, at an IoU of 0.5.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curves {
    /// The recalls of `precision_at_recall`: 0, 0.01, …, 1.
    pub recalls: Vec<f64>,
    /// The scores of `precision`, `recall` and `f1`: 0, 0.01, …, 1. Detections with at least that score are kept.
    pub scores: Vec<f64>,
    /// The mean over the categories.
    pub mean: Curve,
    /// Each category that has objects, in ascending order of the ids.
    pub per_category: Vec<CategoryCurve>,
}

/// The curves of one category.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CategoryCurve {
    /// Id of the category.
    pub id: i64,
    /// The curves.
    #[serde(flatten)]
    pub curve: Curve,
}

/// Precision over recall, and precision, recall and F1 over the score.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// COCO's interpolated precision at each recall; its mean is AP50.
    pub precision_at_recall: Vec<f64>,
    /// Precision at each score; 0 where no detection is kept.
    pub precision: Vec<f64>,
    /// Recall at each score.
    pub recall: Vec<f64>,
    /// F1 at each score.
    pub f1: Vec<f64>,
}

impl Curves {
    /// Computes the curves.
    pub(crate) fn new(matched: &Matched) -> Self {
        let recalls = matched.recalls().to_vec();
        let scores: Vec<f64> = (0..SCORES).map(|i| i as f64 / (SCORES - 1) as f64).collect();
        let categories = matched.categories().into_iter().zip(matched.of_all_sizes());
        let per_category: Vec<CategoryCurve> = categories
            .filter(|(_, category)| category.object_count() > 0)
            .map(|(id, category)| CategoryCurve { id, curve: curve(category, &recalls, &scores) })
            .collect();
        let mean = |of: fn(&Curve) -> &[f64], length: usize| -> Vec<f64> {
            let count = per_category.len().max(1) as f64;
            (0..length).map(|i| per_category.iter().map(|c| of(&c.curve)[i]).sum::<f64>() / count).collect()
        };
        let mean = Curve {
            precision_at_recall: mean(|c| &c.precision_at_recall, recalls.len()),
            precision: mean(|c| &c.precision, SCORES),
            recall: mean(|c| &c.recall, SCORES),
            f1: mean(|c| &c.f1, SCORES),
        };
        Self { recalls, scores, mean, per_category }
    }
}

fn curve(category: &Category, recalls: &[f64], scores: &[f64]) -> Curve {
    let objects = category.object_count() as f64;
    let (mut hits, mut all, mut points) = (0.0, 0.0, Vec::new());
    for hit in category.detections.iter().filter_map(|detection| detection.hit(0)) {
        all += 1.0;
        if hit {
            hits += 1.0;
            points.push((hits / objects, hits / all));
        }
    }
    let mut best = 0.0f64;
    for (_, precision) in points.iter_mut().rev() {
        best = best.max(*precision);
        *precision = best;
    }
    let at = |recall: &f64| points.get(points.partition_point(|(found, _)| found < recall)).map_or(0.0, |p| p.1);
    let kept = at_scores(category, scores);
    Curve {
        precision_at_recall: recalls.iter().map(at).collect(),
        precision: kept.iter().map(|point| point.precision).collect(),
        recall: kept.iter().map(|point| point.recall).collect(),
        f1: kept.iter().map(|point| point.f1).collect(),
    }
}
