//! Checks of the boxes: layouts, mirrored and turned images, resized images, shifts.

use std::collections::BTreeMap;

use foveal_coco::Image;

use super::context::Context;
use super::fitted::{self, Fitted};
use super::reading::{BoxMap, Reading};
use super::{Check, TESTED};
use crate::EvalError;
use crate::image_boxes::{Class, percent};
use crate::layout::Layout;

/// Fraction of the detections without width or height from which they are a cause.
const EMPTY: f64 = 0.3;
/// Amount by which a reading without fitted numbers may find fewer objects than one with them.
const SIMPLER: f64 = 0.03;

/// The causes of the checks of boxes, in the order in which they are listed, with what to do.
const CAUSES: [(&str, &str); 9] = [
    ("box_layout", "Write bbox as [x, y, width, height] in pixels of the original image"),
    ("box_fractions", "Multiply by the width and height of the image: bbox must be in pixels of the original image"),
    (
        "annotation_layout",
        "Check the boxes of the annotation file: they must be [x, y, width, height] in pixels of the original image. The \
         opposite mistake in the detections looks the same",
    ),
    ("mirrored_boxes", "Check whether the images are mirrored before detection and the boxes are not mirrored back"),
    (
        "turned_boxes",
        "Check the orientation of the images: the annotations and the detections seem to be for differently turned images, \
         as when one program applies the EXIF orientation and the other does not",
    ),
    ("resized_boxes", "Convert the boxes to pixels of the original image, which the annotations are in"),
    ("letterbox_boxes", "Subtract the padding and divide by the factor of the resizing before writing the boxes"),
    ("shifted_boxes", "Check for a crop, a padding or another origin of the coordinates"),
    (
        "box_size",
        "Check how box deltas are decoded (their normalisation, the sizes of the anchors) and whether boxes are padded",
    ),
];

/// A cause, its advice, and the best reading of its kind with the fraction of the objects that it finds.
type Tested = (&'static str, &'static str, Option<(f64, Reading)>);

/// Checks the boxes, and corrects them in the context if a reading finds many more objects.
///
/// # Errors
/// If hotcoco reports an error.
pub(super) fn check(context: &mut Context, checks: &mut Vec<Check>) -> Result<(), EvalError> {
    checks.push(empty(context));
    if !context.can_gain() {
        checks.push(Check::nothing("box_layout", format!("{}, so that no reading is tested", context.start())));
        return Ok(());
    }
    let first = checks.len();
    if !search(context, checks, Class::Same)? {
        // The classes may be wrong as well.
        let before = context.found;
        let any = super::context::found(&context.sample, &context.sampled, Class::Any);
        if !context.is_gain(any) {
            context.found = before.max(any);
            let mut others = Vec::new();
            if search(context, &mut others, Class::Any)? {
                checks.truncate(first);
                checks.extend(others);
            } else {
                context.found = before;
            }
        }
    }
    Ok(())
}

/// Tests all readings, and adds a check for each kind. Only the best reading of all kinds is a cause, because one
/// mistake can be described by several of them.
fn search(context: &mut Context, checks: &mut Vec<Check>, class: Class) -> Result<bool, EvalError> {
    let mut kinds: BTreeMap<&str, Vec<Reading>> = BTreeMap::new();
    let mut add = |cause, reading| kinds.entry(cause).or_default().push(reading);
    for layout in Layout::OTHERS {
        let map = || -> BoxMap { Box::new(move |image: &Image, bbox| layout.xywh(bbox, image)) };
        let cause = if layout.is_fraction() { "box_fractions" } else { "box_layout" };
        add(cause, Reading::of_boxes(format!("bbox is read as {}", layout.name()), map()));
        let condition = format!("bbox of the annotations is read as {}", layout.name());
        add("annotation_layout", Reading { condition, truth_boxes: Some(map()), ..Reading::default() });
    }
    for (cause, reading) in turned() {
        add(cause, reading);
    }
    for Fitted { cause, reading } in fitted::readings(&context.sample, &context.sampled, class) {
        add(cause, reading);
    }
    let mut best: Vec<Tested> = CAUSES
        .iter()
        .map(|&(cause, advice)| (cause, advice, context.best(kinds.remove(cause).unwrap_or_default(), class)))
        .collect();
    let found = |entry: &Option<(f64, Reading)>| entry.as_ref().map_or(0.0, |(found, _)| *found);
    // Of readings that find nearly as many objects, the one of the first kind is the simplest.
    let most = best.iter().map(|(_, _, entry)| found(entry)).fold(0.0, f64::max);
    let chosen = best.iter().position(|(_, _, entry)| found(entry) >= most - SIMPLER).filter(|_| context.is_gain(most));
    let chosen = chosen.map(|index| best.remove(index));
    checks.extend(best.iter().map(|(cause, _, entry)| context.nothing(cause, entry.as_ref())));
    let Some((cause, advice, Some((found, reading)))) = chosen else { return Ok(false) };
    if class == Class::Any {
        // AP50 can only be compared once the classes are right too, which is checked after this.
        let measured =
            format!("{}. If classes are ignored and {}, {} are", context.start(), reading.condition, percent(found));
        context.correct(&reading, "With corrected boxes, ")?;
        checks.push(Check::found(cause, TESTED * found, measured, advice));
        return Ok(true);
    }
    let check = context.accept(cause, found, &reading, advice, "With corrected boxes, ")?;
    let accepted = check.strength > 0.0;
    checks.push(check);
    Ok(accepted)
}

/// The readings of boxes of mirrored and turned images.
fn turned() -> Vec<(&'static str, Reading)> {
    type Turn = fn([f64; 2], [f64; 4]) -> [f64; 4];
    const MIRRORED: &str = "mirrored_boxes";
    const TURNED: &str = "turned_boxes";
    let turns: [(&str, &str, Turn); 6] = [
        (MIRRORED, "mirrored left to right", |[w, _], b| [w - b[0] - b[2], b[1], b[2], b[3]]),
        (MIRRORED, "mirrored top to bottom", |[_, h], b| [b[0], h - b[1] - b[3], b[2], b[3]]),
        (TURNED, "turned by 180 degrees", |[w, h], b| [w - b[0] - b[2], h - b[1] - b[3], b[2], b[3]]),
        (TURNED, "turned by a quarter anticlockwise", |[_, h], b| [b[1], h - b[0] - b[2], b[3], b[2]]),
        (TURNED, "turned by a quarter clockwise", |[w, _], b| [w - b[1] - b[3], b[0], b[3], b[2]]),
        (TURNED, "mirrored along the second diagonal", |[w, h], b| [w - b[1] - b[3], h - b[0] - b[2], b[3], b[2]]),
    ];
    let reading = |(cause, name, turn): (&'static str, &str, Turn)| {
        let map = move |image: &Image, bbox| turn([f64::from(image.width), f64::from(image.height)], bbox);
        (cause, Reading::of_boxes(format!("the boxes are {name}"), Box::new(map)))
    };
    turns.into_iter().map(reading).collect()
}

fn empty(context: &Context) -> Check {
    let all = context.detections.len();
    let count = context.detections.iter().filter(|d| d.bbox[2] <= 0.0 || d.bbox[3] <= 0.0).count();
    let measured = format!("{count} of {all} detections have a box without width or height");
    let share = count as f64 / all.max(1) as f64;
    if share < EMPTY {
        return Check::nothing("empty_boxes", measured);
    }
    let advice = "Check how bbox is written: [x, y, width, height] in pixels, not rounded, with positive sizes";
    Check::found("empty_boxes", 0.6 * share, measured, advice)
}
