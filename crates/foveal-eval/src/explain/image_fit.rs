//! The image whose objects the detections of an image fit.

use std::collections::{BTreeMap, HashMap, HashSet};

use foveal_boxes::{BBox, iou};
use foveal_coco::{CocoDataset, CocoDetection, xywh_to_bbox};

use crate::image_boxes::FITS;

/// Largest number of images whose detections are compared.
const IMAGES: usize = 200;
/// Largest number of comparisons of two images.
const COMPARISONS: usize = 1_000_000;
/// Largest number of objects of an image that are compared.
const OBJECTS: usize = 12;
/// Difference of the mean fits by which other images must fit better than their own, and than by chance.
const BETTER: f64 = 0.15;
/// Fraction of the compared images that must fit different images.
const DIFFERENT: f64 = 0.6;

/// The result of comparing images.
pub(super) struct Fit {
    /// Number of images whose detections were compared.
    pub(super) images: usize,
    /// Number of images whose objects were compared.
    pub(super) candidates: usize,
    /// Mean over the images of the best fit with any image, from 0 to 1.
    pub(super) best: f64,
    /// Mean fit with the image that the detections name.
    pub(super) own: f64,
    /// Mean of the best fit of mirrored detections, which fit by chance.
    pub(super) chance: f64,
    /// The image that the detections of an image fit, each at most once, by the id in the detections.
    pub(super) map: HashMap<i64, i64>,
}

impl Fit {
    /// Whether the detections fit other images than their own, and not by chance.
    pub(super) fn is_found(&self) -> bool {
        self.best >= self.own + BETTER
            && self.best >= self.chance + BETTER
            && self.map.len() as f64 >= DIFFERENT * self.images as f64
    }
}

/// A box with its category.
type Labelled = (i64, BBox);

/// Compares the detections of at most [`IMAGES`] images with the objects of all images. `None` without images.
pub(super) fn fit(truth: &CocoDataset, detections: &[CocoDetection]) -> Option<Fit> {
    let known: HashSet<i64> = truth.images.iter().map(|image| image.id).collect();
    let mut objects: BTreeMap<i64, Vec<Labelled>> = BTreeMap::new();
    for a in truth.annotations.iter().filter(|a| !a.iscrowd && known.contains(&a.image_id)) {
        objects.entry(a.image_id).or_default().push((a.category_id, xywh_to_bbox(&a.bbox)));
    }
    let mut by_image: BTreeMap<i64, Vec<&CocoDetection>> = BTreeMap::new();
    detections.iter().for_each(|d| by_image.entry(d.image_id).or_default().push(d));
    if objects.is_empty() || by_image.is_empty() {
        return None;
    }
    let count = (COMPARISONS / objects.len()).clamp(1, IMAGES).min(by_image.len());
    let every = by_image.len().div_ceil(count);
    let (mut sums, mut compared, mut fits) = ([0.0; 3], 0, Vec::new());
    for (&id, found) in by_image.iter_mut().step_by(every) {
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        let found: Vec<Labelled> =
            found.iter().take(2 * OBJECTS).map(|d| (d.category_id, xywh_to_bbox(&d.bbox))).collect();
        let end = found.iter().map(|(_, b)| b.x2).fold(0.0, f32::max);
        let mirrored: Vec<Labelled> = found.iter().map(|(class, b)| (*class, b.flip_horizontal(end))).collect();
        let each: Vec<(f64, i64)> = objects.iter().map(|(&to, objects)| (quality(&found, objects), to)).collect();
        let best = each.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
        let chance = objects.values().map(|objects| quality(&mirrored, objects)).fold(0.0, f64::max);
        let own = objects.get(&id).map_or(0.0, |objects| quality(&found, objects));
        sums = [sums[0] + best.0, sums[1] + own, sums[2] + chance];
        compared += 1;
        fits.push((best.0, id, best.1));
    }
    // An image that several fit goes to the one that fits best.
    fits.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut taken = HashSet::new();
    let map = fits.iter().filter(|(fit, _, to)| *fit > 0.0 && taken.insert(*to)).map(|&(_, from, to)| (from, to));
    let map: HashMap<i64, i64> = map.collect();
    let [best, own, chance] = sums.map(|sum| sum / f64::from(compared));
    Some(Fit { images: compared as usize, candidates: objects.len(), best, own, chance, map })
}

/// How well detections, the best first, fit the objects of an image, from 0 to 1: the mean over the objects of the
/// highest IoU with a detection of their category, if it is at least 0.5. It is lowered for few objects, which fit by
/// chance.
fn quality(found: &[Labelled], objects: &[Labelled]) -> f64 {
    let count = objects.len().min(OBJECTS);
    let found = &found[..found.len().min(2 * count)];
    let overlap = |(class, place): &Labelled| {
        let same = found.iter().filter(|(other, _)| other == class).map(|(_, b)| iou(b, place));
        let best = same.fold(0.0, f32::max);
        if best >= FITS { f64::from(best) } else { 0.0 }
    };
    let sum: f64 = objects.iter().take(count).map(overlap).sum();
    // Detections that no object explains speak against the image.
    let most = count.max(found.len() / 2);
    sum / most as f64 * (1.0 - 0.4 / count as f64)
}
