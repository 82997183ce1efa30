//! Why figures are near zero: what the detections would find if they meant something else.

mod layout;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use foveal_boxes::{BBox, iou};
use foveal_coco::{Annotation, CocoDataset, CocoDetection, Image, xywh_to_bbox};
use layout::Layout;

/// AP50 below which it is tried whether detections mean something else, which may leave some right by chance …
const LOW: f64 = 0.1;
/// … and below which something is said in any case.
const NEAR_ZERO: f64 = 0.02;
/// Detections an image that count, as in COCO's figures.
const LIMIT: usize = 100;
/// The part of the objects that must be found for a reading to be taken for the right one …
const ENOUGH: f64 = 0.25;
/// … and how many times as many as with the detections as they are.
const TIMES: f64 = 3.0;
/// IoU of a detection that fits, as in AP50.
const FITS: f32 = 0.5;
/// IoU of a detection that lies where the object is, and does not fit.
const TOUCHES: f32 = 0.1;
/// The part of the images below which the detections are of other images.
const FEW_IMAGES: f64 = 0.2;
/// The part of mistaken classes, or sizes, that a rule must explain.
const MOSTLY: f64 = 0.8;
/// Sizes that differ by less have one factor: images resized to one length of their shorter side.
const ALIKE: f64 = 1.4;

/// The likely reason, in words for the user, why an AP50 is near zero: below 0.02 always, below 0.1 where there is one;
/// `None` above and without objects.
///
/// Nothing is assumed about where the detections come from: each way to misread boxes, classes or images is tried, and
/// named where it finds many more objects than the detections as they are.
pub fn near_zero(truth: &CocoDataset, detections: &[CocoDetection], ap50: f64) -> Option<String> {
    if !(0.0..LOW).contains(&ap50) {
        return None;
    }
    if detections.is_empty() {
        return Some(
            "AP is 0: there is not one detection. Training has hardly begun or gone astray, or the score threshold is \
             too high"
                .into(),
        );
    }
    let images = images(truth, detections);
    let objects: usize = images.iter().map(|p| p.objects.len()).sum();
    let found = |layout, iou, class| part(&images, layout, iou, class);
    let as_they_are = found(Layout::Coco, FITS, Class::Same);
    let start = format!(
        "AP50 is {ap50:.4}: {} of {objects} objects have a detection of their class with an IoU of {FITS} or more",
        percent(as_they_are)
    );
    let better = |part: f64| part >= ENOUGH && part >= TIMES * as_they_are;

    let covered = images.iter().filter(|p| !p.detections.is_empty()).count();
    if (covered as f64) < FEW_IMAGES * images.len() as f64 {
        return Some(format!(
            "{start}; only {covered} of {} images with objects have detections at all: are image_ids those of these \
             annotations?",
            images.len()
        ));
    }
    let readings = Layout::OTHERS.map(|layout| (layout, found(layout, FITS, Class::Same)));
    if let Some((layout, part)) =
        readings.into_iter().filter(|(_, part)| better(*part)).max_by(|a, b| a.1.total_cmp(&b.1))
    {
        return Some(format!(
            "{start}; {} if bbox is read as {}. It must be [x, y, width, height] in pixels of the original image",
            percent(part),
            layout.name()
        ));
    }
    let (scaled, factor) = rescaled(&images);
    if better(scaled) {
        return Some(format!(
            "{start}; {} once boxes are divided by {factor:.2} or so: are they boxes of a resized image? They must be in \
             pixels of the original one",
            percent(scaled)
        ));
    }
    let any_class = found(Layout::Coco, FITS, Class::Any);
    if better(any_class) {
        return Some(format!("{start}; {} of any class. {}", percent(any_class), mistaken(truth, &images)));
    }
    if ap50 >= NEAR_ZERO {
        return None;
    }
    if as_they_are >= ENOUGH {
        return Some(format!(
            "{start}, and they are outranked by false alarms: scores do not tell objects from background yet"
        ));
    }
    let touched = found(Layout::Coco, TOUCHES, Class::Same);
    if better(touched) {
        return Some(format!(
            "{start}; {} with {TOUCHES} or more: objects are seen, and the boxes do not fit. Do the anchors (`foveal \
             anchors coverage`)?",
            percent(touched)
        ));
    }
    let highest = detections.iter().map(|d| d.score).fold(f64::NEG_INFINITY, f64::max);
    Some(format!(
        "{start}, no more if boxes or classes are read otherwise; the highest score is {highest:.3}. Early in training that \
         is so; later, `foveal train --overfit 8` tells whether data and settings can be learned at all"
    ))
}

/// An image with objects.
struct ImageBoxes<'a> {
    image: &'a Image,
    /// Without crowds.
    objects: Vec<&'a Annotation>,
    /// The best ones.
    detections: Vec<&'a CocoDetection>,
}

fn images<'a>(truth: &'a CocoDataset, detections: &'a [CocoDetection]) -> Vec<ImageBoxes<'a>> {
    let mut by_id: HashMap<i64, ImageBoxes<'a>> = truth
        .images
        .iter()
        .map(|image| (image.id, ImageBoxes { image, objects: Vec::new(), detections: Vec::new() }))
        .collect();
    for object in truth.annotations.iter().filter(|a| !a.iscrowd) {
        if let Some(entry) = by_id.get_mut(&object.image_id) {
            entry.objects.push(object);
        }
    }
    for detection in detections {
        if let Some(entry) = by_id.get_mut(&detection.image_id) {
            entry.detections.push(detection);
        }
    }
    let mut images: Vec<ImageBoxes> = by_id.into_values().filter(|p| !p.objects.is_empty()).collect();
    for entry in &mut images {
        entry.detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        entry.detections.truncate(LIMIT);
    }
    images
}

/// Which detections count for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Same,
    Any,
}

/// The detection that fits an object best, with its IoU.
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
        .filter(|(d, _)| class == Class::Any || d.category_id == object.category_id)
        .map(|(d, b)| (*d, iou(b, &place)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Calls `f` with every object and the detection that fits it best, where that does by `threshold`.
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

/// The part of the objects that are found.
fn part(images: &[ImageBoxes], layout: Layout, threshold: f32, class: Class) -> f64 {
    let objects: usize = images.iter().map(|p| p.objects.len()).sum();
    let mut found = 0usize;
    each_found(images, layout, threshold, class, |_, _| found += 1);
    found as f64 / objects.max(1) as f64
}

/// The part of the objects that the best detections find once their sizes are made equal, and by how much they are too
/// large in the middle; 0 where that differs from box to box.
fn rescaled(images: &[ImageBoxes]) -> (f64, f64) {
    let objects: usize = images.iter().map(|p| p.objects.len()).sum();
    let mut factors = Vec::new();
    for entry in images {
        // Among many detections some would fit by chance.
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

/// What is wrong with the classes.
fn mistaken(truth: &CocoDataset, images: &[ImageBoxes]) -> String {
    let (mut shifts, mut pairs) = (BTreeMap::<i64, usize>::new(), BTreeMap::<(i64, i64), usize>::new());
    each_found(images, Layout::Coco, FITS, Class::Any, |object, detection| {
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
            "Category ids of detections are {by} {where_to} those of the objects that they lie on ({count} of {all}): the \
             list of classes is shifted"
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
        .map(|((object, detection), count)| format!("{} as {} ({count})", name(*object), name(*detection)))
        .collect();
    format!("Most often mistaken: {}. Are both lists of classes in the same order?", shown.join(", "))
}

fn percent(part: f64) -> String {
    format!("{:.0} %", 100.0 * part)
}
