//! The likely reason for metrics near zero, found by testing common misreadings of boxes, classes and images.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use foveal_boxes::{BBox, iou};
use foveal_coco::{Annotation, CocoDataset, CocoDetection, xywh_to_bbox};

use crate::image_boxes::{Class, FITS, ImageBoxes, images, object_count, percent};
use crate::layout::Layout;

/// AP50 below which misreadings are tested. It is above [`NEAR_ZERO`], because some misread detections are right by
/// chance.
const LOW: f64 = 0.1;
/// AP50 below which a message is returned even if no misreading explains it.
const NEAR_ZERO: f64 = 0.02;
/// Fraction of the objects that must be found under a reading of the detections for it to be reported.
const ENOUGH: f64 = 0.25;
/// Ratio of the objects found under a reading to those found by the unchanged detections from which the reading is
/// reported.
const TIMES: f64 = 3.0;
/// IoU from which a detection overlaps an object, without necessarily fitting it.
const TOUCHES: f32 = 0.1;
/// Fraction of the images with objects that must have detections. Below it, the detections are taken for those of other
/// images.
const FEW_IMAGES: f64 = 0.2;
/// Fraction of the confused classes, or of the sizes, that a rule must explain to be reported.
const MOSTLY: f64 = 0.8;
/// Largest ratio between resize factors that count as one factor. The factors of a data set differ if the shorter sides
/// of its images were resized to one length.
const ALIKE: f64 = 1.4;

/// The likely reason for a low AP50, as text for the user.
///
/// Returns a text for every AP50 below 0.02 and, if a reason was found, for an AP50 below 0.1. Returns `None` for a
/// higher AP50 and for a negative one, which means that there are no objects. `ap50` is a fraction from 0 to 1.
///
/// The function tests common misreadings of boxes, classes and images: other box layouts, boxes of resized images,
/// other class ids, and results of other images. It reports the one under which many more objects are found.
pub fn near_zero(truth: &CocoDataset, detections: &[CocoDetection], ap50: f64) -> Option<String> {
    if !(0.0..LOW).contains(&ap50) {
        return None;
    }
    if detections.is_empty() {
        return Some(
            "AP is 0 because there are no detections. Training has barely started or has diverged, or the score \
             threshold is too high"
                .into(),
        );
    }
    let images = images(truth, detections);
    let objects = object_count(&images);
    let found = |layout, iou, class| fraction_found(&images, layout, iou, class);
    let as_they_are = found(Layout::COCO, FITS, Class::Same);
    let start = format!(
        "AP50 is {ap50:.4}: {} of {objects} objects have a detection of their class with an IoU of at least {FITS}",
        percent(as_they_are)
    );
    let better = |part: f64| part >= ENOUGH && part >= TIMES * as_they_are;

    let covered = images.iter().filter(|p| !p.detections.is_empty()).count();
    if (covered as f64) < FEW_IMAGES * images.len() as f64 {
        return Some(format!(
            "{start}. Only {covered} of {} images with objects have any detections. Check that the image_id of each \
             detection is the id of its image in the annotation file",
            images.len()
        ));
    }
    let readings = Layout::OTHERS.map(|layout| (layout, found(layout, FITS, Class::Same)));
    if let Some((layout, part)) =
        readings.into_iter().filter(|(_, part)| better(*part)).max_by(|a, b| a.1.total_cmp(&b.1))
    {
        return Some(format!(
            "{start}. If bbox is read as {}, {} of the objects have such a detection. bbox must be [x, y, width, \
             height] in pixels of the original image",
            layout.name(),
            percent(part)
        ));
    }
    let (scaled, factor) = rescaled(&images);
    if better(scaled) {
        return Some(format!(
            "{start}. If the boxes are divided by about {factor:.2}, {} of the objects have such a detection. The \
             boxes seem to be in pixels of resized images; bbox must be in pixels of the original image",
            percent(scaled)
        ));
    }
    let any_class = found(Layout::COCO, FITS, Class::Any);
    if better(any_class) {
        return Some(format!(
            "{start}. If classes are ignored, {} of the objects have a detection with an IoU of at least {FITS}. {}",
            percent(any_class),
            confused_classes(truth, &images)
        ));
    }
    if ap50 >= NEAR_ZERO {
        return None;
    }
    if as_they_are >= ENOUGH {
        return Some(format!(
            "{start}, but false positives have higher scores. The scores do not separate objects from background yet"
        ));
    }
    let touched = found(Layout::COCO, TOUCHES, Class::Same);
    if better(touched) {
        return Some(format!(
            "{start}. {} of the objects have a detection of their class with an IoU of at least {TOUCHES}: the objects are \
             found, but the boxes do not fit. Check the fit of the anchors with `foveal anchors coverage`",
            percent(touched)
        ));
    }
    let highest = detections.iter().map(|d| d.score).fold(f64::NEG_INFINITY, f64::max);
    Some(format!(
        "{start}. Other readings of the boxes or classes do not explain this. The highest score is {highest:.3}. \
         A low AP is normal early in training. Later, check with `foveal train --overfit 8` whether the model can \
         learn a few images of the data with these settings"
    ))
}

/// The detection with the highest IoU with an object, and the IoU.
fn best<'a>(
    entry: &ImageBoxes<'a>,
    boxes: &[BBox],
    object: &Annotation,
    class: Class,
) -> Option<(&'a CocoDetection, f32)> {
    let place = xywh_to_bbox(&object.bbox);
    entry
        .detections
        .iter()
        .zip(boxes)
        .filter(|(d, _)| class.fits(d, object))
        .map(|(d, b)| (*d, iou(b, &place)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Calls `f` with every object that has a detection with an IoU of at least `threshold`, and with its best detection.
fn each_found(
    images: &[ImageBoxes],
    layout: Layout,
    threshold: f32,
    class: Class,
    mut f: impl FnMut(&Annotation, &CocoDetection),
) {
    for entry in images {
        let boxes: Vec<BBox> = entry.detections.iter().map(|d| layout.read(d.bbox, entry.image)).collect();
        for object in &entry.objects {
            match best(entry, &boxes, object, class) {
                Some((detection, overlap)) if overlap >= threshold => f(object, detection),
                _ => {}
            }
        }
    }
}

/// The fraction of the objects that have a detection with an IoU of at least `threshold`.
fn fraction_found(images: &[ImageBoxes], layout: Layout, threshold: f32, class: Class) -> f64 {
    let objects = object_count(images);
    let mut found = 0usize;
    each_found(images, layout, threshold, class, |_, _| found += 1);
    found as f64 / objects.max(1) as f64
}

/// The fraction of the objects that are found after the boxes of the best detections are divided by a common factor,
/// and the median of the factor. The fraction is 0 if the factors of the boxes differ too much.
fn rescaled(images: &[ImageBoxes]) -> (f64, f64) {
    let objects = object_count(images);
    let mut factors = Vec::new();
    for entry in images {
        // Only the best detections are used, since among many some would fit by chance.
        let detections = &entry.detections[..entry.detections.len().min(2 * entry.objects.len())];
        for object in &entry.objects {
            let place = xywh_to_bbox(&object.bbox);
            let fitting = detections.iter().filter(|d| d.category_id == object.category_id).filter_map(|detection| {
                let [_, _, width, height] = detection.bbox;
                let factor = (width * height / (object.bbox[2] * object.bbox[3])).sqrt();
                let overlap = iou(&xywh_to_bbox(&detection.bbox.map(|v| v / factor)), &place);
                (factor.is_finite() && overlap >= FITS).then_some((overlap, factor))
            });
            factors.extend(fitting.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, factor)| factor));
        }
    }
    factors.sort_by(f64::total_cmp);
    let Some(middle) = factors.get(factors.len() / 2).copied() else { return (0.0, 1.0) };
    let alike = factors.iter().filter(|f| (middle / ALIKE..=middle * ALIKE).contains(*f)).count();
    let found = if alike as f64 >= MOSTLY * factors.len() as f64 { alike as f64 } else { 0.0 };
    (found / objects.max(1) as f64, middle)
}

/// Describes for the user how the classes of detections and objects differ.
fn confused_classes(truth: &CocoDataset, images: &[ImageBoxes]) -> String {
    let (mut shifts, mut pairs) = (BTreeMap::<i64, usize>::new(), BTreeMap::<(i64, i64), usize>::new());
    each_found(images, Layout::COCO, FITS, Class::Any, |object, detection| {
        *shifts.entry(detection.category_id.wrapping_sub(object.category_id)).or_default() += 1;
        if detection.category_id != object.category_id {
            *pairs.entry((object.category_id, detection.category_id)).or_default() += 1;
        }
    });
    let all: usize = shifts.values().sum();
    let most = shifts.iter().max_by_key(|(_, count)| **count);
    if let Some((shift, count)) = most.filter(|(shift, count)| **shift != 0 && **count as f64 >= MOSTLY * all as f64) {
        let (by, where_to) = (shift.unsigned_abs(), if *shift > 0 { "above" } else { "below" });
        return format!(
            "{count} of the {all} detections that fit an object have a category_id that is {by} {where_to} that of the \
             object: the list of classes is shifted"
        );
    }
    let name = |id: i64| {
        let known = truth.categories.iter().find(|c| c.id == id);
        known.map_or_else(|| format!("category {id}"), |c| c.name.clone())
    };
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_by_key(|(ids, count)| (Reverse(*count), *ids));
    let shown: Vec<String> = pairs
        .iter()
        .take(3)
        .map(|((object, detection), count)| format!("{} detected as {} ({count})", name(*object), name(*detection)))
        .collect();
    format!(
        "The most frequent confusions are: {}. Check that both lists of classes are in the same order",
        shown.join(", ")
    )
}
