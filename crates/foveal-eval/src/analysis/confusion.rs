//! Which classes are taken for which.

use std::collections::BTreeMap;

use serde::Serialize;

use super::scene::{MATCH_IOU, Scene, Scenes};

/// The confusion matrix. In each image, the detections in descending order of score each take the object of any class
/// that has the highest IoU of at least 0.5 and has not been taken. Only detections with at least the score threshold
/// of their class count. Detections that take no object but lie on a crowd region of their class are left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Confusion {
    /// IoU from which a detection takes an object: 0.5.
    pub iou: f64,
    /// Ids of all categories in ascending order.
    pub categories: Vec<i64>,
    /// The score threshold of each category in the order of `categories`: that of the best F1, or 0 if there is none.
    pub thresholds: Vec<f64>,
    /// The cells that are not 0, in ascending order of `truth` and `detected`; `null` comes first.
    pub cells: Vec<ConfusionCell>,
}

/// A cell of the confusion matrix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ConfusionCell {
    /// Category id of the objects; `null` for detections that take no object.
    pub truth: Option<i64>,
    /// Category id of the detections; `null` for objects that no detection takes.
    pub detected: Option<i64>,
    /// Number of pairs, detections or objects.
    pub count: usize,
}

/// Class indices of an object and a detection that took each other; `None` where there is none.
type Pair = (Option<usize>, Option<usize>);

impl Confusion {
    /// Computes the matrix with one score threshold for each category.
    pub(crate) fn new(scenes: &Scenes<'_>, thresholds: &[f64]) -> Self {
        let mut counts: BTreeMap<Pair, usize> = BTreeMap::new();
        for pairs in scenes.map(|scene| pairs(scene, thresholds)) {
            pairs.into_iter().for_each(|pair| *counts.entry(pair).or_insert(0) += 1);
        }
        let id = |class: Option<usize>| class.map(|class| scenes.categories[class]);
        Self {
            iou: MATCH_IOU,
            categories: scenes.categories.clone(),
            thresholds: thresholds.to_vec(),
            cells: counts
                .into_iter()
                .map(|((truth, detected), count)| ConfusionCell { truth: id(truth), detected: id(detected), count })
                .collect(),
        }
    }
}

fn pairs(scene: &Scene, thresholds: &[f64]) -> Vec<Pair> {
    let mut taken = vec![false; scene.objects.len()];
    let mut pairs = Vec::new();
    for (index, found) in scene.found.iter().enumerate().filter(|(_, found)| found.score >= thresholds[found.class]) {
        let mut best: Option<(usize, f64)> = None;
        let mut on_crowd = false;
        for (object, &iou) in scene.ious(index).iter().enumerate() {
            if iou < MATCH_IOU {
                continue;
            }
            if scene.objects[object].crowd {
                on_crowd |= scene.objects[object].class == found.class;
            } else if !taken[object] && best.is_none_or(|(_, high)| iou > high) {
                best = Some((object, iou));
            }
        }
        match best {
            Some((object, _)) => {
                taken[object] = true;
                pairs.push((Some(scene.objects[object].class), Some(found.class)));
            }
            None if !on_crowd => pairs.push((None, Some(found.class))),
            None => {}
        }
    }
    let left = scene.objects.iter().zip(&taken).filter(|(object, taken)| !object.crowd && !**taken);
    pairs.extend(left.map(|(object, _)| (Some(object.class), None)));
    pairs
}
