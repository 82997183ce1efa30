//! Checks of the image ids of detections.

use std::collections::{BTreeSet, HashMap, HashSet};

use foveal_coco::CocoDataset;

use super::context::{Context, found};
use super::image_fit;
use super::reading::Reading;
use super::{Check, TESTED};
use crate::EvalError;
use crate::image_boxes::{Class, percent};

/// Fraction of the detections on unknown images from which they are a cause.
const UNKNOWN: f64 = 0.2;
/// Largest shift of image ids, and of positions in the order of the images, that is tested.
const SHIFT: i64 = 5;
/// Fraction of the objects that detections of any class find from which the images are right.
const RIGHT: f64 = 0.5;
const CORRECTED: &str = "With corrected image ids, ";

/// Checks the image ids, and corrects them in the context if a reading finds many more objects.
///
/// # Errors
/// If hotcoco reports an error.
pub(super) fn check(context: &mut Context, checks: &mut Vec<Check>) -> Result<(), EvalError> {
    let unknown = unknown(context);
    let covered = covered(context);
    let is_right = found(&context.sample, &context.sampled, Class::Any) >= RIGHT;
    let mut explained = false;
    if is_right || !context.can_gain() {
        let measured = format!("{}, so that no other image ids are tested", context.start());
        checks.push(Check::nothing("image_ids_shifted", measured));
    } else {
        let kinds = [
            (
                "image_ids_shifted",
                shifts(context),
                "Write the id of the image in the annotation file as image_id of each detection",
            ),
            (
                "image_ids_reversed",
                vec![reversed(context)],
                "Check the order in which images and detections are paired",
            ),
            (
                "image_ids_numbered",
                numbered(context),
                "Write the id of the image in the annotation file as image_id, not its position or file name",
            ),
        ];
        for (cause, readings, advice) in kinds {
            let best = if explained { None } else { context.best(readings, Class::Same) };
            match best {
                Some((found, reading)) if context.is_gain(found) => {
                    let check = context.accept(cause, found, &reading, advice, CORRECTED)?;
                    explained |= check.strength > 0.0;
                    checks.push(check);
                }
                _ if explained => {}
                best => checks.push(context.nothing(cause, best.as_ref())),
            }
        }
        if !explained {
            let check = permuted(context)?;
            explained = check.strength > 0.0;
            checks.push(check);
        }
    }
    let weaker = |mut check: Check| {
        if explained {
            check.strength *= 0.3;
        }
        check
    };
    checks.extend([unknown, covered].map(weaker));
    Ok(())
}

fn truth_ids(truth: &CocoDataset) -> Vec<i64> {
    truth.images.iter().map(|image| image.id).collect::<BTreeSet<i64>>().into_iter().collect()
}

fn detected_ids(context: &Context) -> Vec<i64> {
    context.detections.iter().map(|d| d.image_id).collect::<BTreeSet<i64>>().into_iter().collect()
}

/// The check of detections on images that the annotations do not list.
fn unknown(context: &Context) -> Check {
    let known: HashSet<i64> = context.truth.images.iter().map(|image| image.id).collect();
    let all = context.detections.len();
    let mut others = context.detections.iter().map(|d| d.image_id).filter(|id| !known.contains(id));
    let count = others.clone().count();
    let measured = match others.next() {
        None => format!("All {all} detections are on images that the annotations list"),
        Some(first) => {
            format!("{count} of {all} detections are on images that the annotations do not list, the first on {first}")
        }
    };
    let share = count as f64 / all.max(1) as f64;
    if share < UNKNOWN {
        return Check::nothing("image_ids_unknown", measured);
    }
    let advice =
        "Check that the detections belong to these annotations, and that image_id is the id of the image in them";
    Check::found("image_ids_unknown", 0.95 * share, measured, advice)
}

/// The check of images that have objects but no detections.
fn covered(context: &Context) -> Check {
    let with: HashSet<i64> = context.sampled.iter().map(|d| d.image_id).collect();
    let objects: Vec<i64> = context.sample.annotations.iter().filter(|a| !a.iscrowd).map(|a| a.image_id).collect();
    let reached = objects.iter().filter(|id| with.contains(id)).count();
    let missed = 1.0 - reached as f64 / objects.len().max(1) as f64;
    let images = context.sample.images.len();
    let measured = format!(
        "{} of {images} images with objects have detections; {} of the objects are in the others",
        context.sample.images.iter().filter(|image| with.contains(&image.id)).count(),
        percent(missed)
    );
    // In the images that have detections, most objects are found if only part of the images was processed.
    let there = if reached == 0 { 0.0 } else { context.found / (1.0 - missed) };
    let lowest = context.detections.iter().map(|d| d.score).fold(f64::INFINITY, f64::min);
    if missed < 0.3 || there < 0.6 {
        return Check::nothing("images_without_detections", measured);
    }
    // Detections with high scores only are rather those of a high threshold.
    let strength = missed * there * (1.0 - lowest.clamp(0.0, 0.9));
    let advice = "Write the detections of all images into the results file, or evaluate with the annotations of the \
                  images that were processed";
    Check::found("images_without_detections", strength, measured, advice)
}

fn reading(condition: String, images: HashMap<i64, i64>) -> Reading {
    Reading { condition, images: Some(images), ..Reading::default() }
}

/// The readings with a number added to all ids, or with the ids of images before or after.
fn shifts(context: &Context) -> Vec<Reading> {
    let (truth, detected) = (truth_ids(&context.truth), detected_ids(context));
    let ends = |from: Option<&i64>, to: Option<&i64>| Some(to?.wrapping_sub(*from?));
    let mut steps: BTreeSet<i64> = (-SHIFT..=SHIFT).collect();
    steps.extend(ends(detected.first(), truth.first()));
    steps.extend(ends(detected.last(), truth.last()));
    steps.remove(&0);
    let mut readings: Vec<Reading> = steps
        .into_iter()
        .map(|step| {
            let by = format!("{} is {} every image_id", step.unsigned_abs(), added(step));
            reading(by, detected.iter().map(|&id| (id, id.wrapping_add(step))).collect())
        })
        .collect();
    let in_file: Vec<i64> = context.truth.images.iter().map(|image| image.id).collect();
    let orders = [(truth.clone(), "of the ids"), (in_file.clone(), "of the annotation file")];
    for (order, name) in orders.into_iter().take(if in_file == truth { 1 } else { 2 }) {
        for step in (-SHIFT..=SHIFT).filter(|step| *step != 0) {
            let map = order.iter().enumerate().map(|(at, &id)| {
                let other = (at as i64 + step).rem_euclid(order.len() as i64);
                (id, order[other as usize])
            });
            let side = if step > 0 { "after" } else { "before" };
            let what = format!(
                "detections belong to the image {} places {side} theirs in the order {name}",
                step.unsigned_abs()
            );
            readings.push(reading(what, map.collect()));
        }
    }
    readings
}

fn added(step: i64) -> &'static str {
    if step > 0 { "added to" } else { "subtracted from" }
}

/// The readings of image ids as positions in a list of the images, or as the number in a file name.
fn numbered(context: &Context) -> Vec<Reading> {
    let images = &context.truth.images;
    let sorted = truth_ids(&context.truth);
    let in_file: Vec<i64> = images.iter().map(|image| image.id).collect();
    let mut named: Vec<(&str, i64)> = images.iter().map(|image| (image.file_name.as_str(), image.id)).collect();
    named.sort_unstable();
    let by_name: Vec<i64> = named.iter().map(|(_, id)| *id).collect();
    let detected = detected_ids(context);
    let mut readings = Vec::new();
    for (order, name) in [
        (in_file, "in the annotation file"),
        (sorted, "in the order of the ids"),
        (by_name, "in the order of the names"),
    ] {
        for base in [0, 1] {
            let map = order.iter().zip(base..).map(|(&id, at)| (at, id)).collect();
            readings.push(reading(format!("image_id is the position of the image {name}, from {base}"), map));
        }
        if detected.len() == order.len() {
            let map = detected.iter().copied().zip(order).collect();
            readings.push(reading(format!("the images of the detections are those {name}"), map));
        }
    }
    let number = |name: &str| -> Option<i64> {
        let stem = name.rsplit(['/', '\\']).next()?.split('.').next()?;
        let digits: String = stem.chars().rev().take_while(char::is_ascii_digit).collect();
        digits.chars().rev().collect::<String>().parse().ok()
    };
    let map = images.iter().filter_map(|image| Some((number(&image.file_name)?, image.id))).collect();
    readings.push(reading("image_id is the number at the end of the file name".to_owned(), map));
    readings
}

/// The reading of the ids in reversed order.
fn reversed(context: &Context) -> Reading {
    let sorted = truth_ids(&context.truth);
    let map = sorted.iter().copied().zip(sorted.iter().rev().copied()).collect();
    reading("the images are in reversed order".to_owned(), map)
}

/// The check of detections that fit other images, found by comparing images.
///
/// # Errors
/// If hotcoco reports an error.
fn permuted(context: &mut Context) -> Result<Check, EvalError> {
    const CAUSE: &str = "image_ids_permuted";
    let advice = "Check that each detection has the id of the image that it was made on, and that the image files are those \
                  of the annotations";
    let Some(fit) = image_fit::fit(&context.truth, &context.detections) else {
        return Ok(Check::nothing(CAUSE, format!("{}, and no images can be compared", context.start())));
    };
    let measured = format!(
        "The detections of {} images were compared with the objects of {} images: the best fit is {:.2} on average, {:.2} \
         with their own image and {:.2} with mirrored boxes, by chance",
        fit.images, fit.candidates, fit.best, fit.own, fit.chance
    );
    if !fit.is_found() {
        return Ok(Check::nothing(CAUSE, measured));
    }
    let example = fit.map.iter().find(|(from, to)| from != to);
    let example = example.map_or_else(String::new, |(from, to)| format!("; those of image {from} fit image {to}"));
    let mapped: HashSet<i64> = fit.map.values().copied().collect();
    let complete = fit.images == detected_ids(context).len();
    let reading = reading("each detection is taken to the image that it fits".to_owned(), fit.map);
    let sample = CocoDataset {
        images: context.truth.images.iter().filter(|image| mapped.contains(&image.id)).cloned().collect(),
        annotations: context.truth.annotations.iter().filter(|a| mapped.contains(&a.image_id)).cloned().collect(),
        categories: context.truth.categories.clone(),
    };
    let (_, moved) = reading.apply(&sample, &context.detections);
    let share = found(&sample, &moved, Class::Same);
    if !context.is_gain(share) {
        return Ok(Check::nothing(CAUSE, format!("{measured}; {} of the objects are found then", percent(share))));
    }
    let start = context.start();
    let ap50 = if complete { Some(context.ap50_under(&reading)?) } else { None };
    if complete {
        context.correct(&reading, CORRECTED)?;
    }
    let measured = format!("{measured}{example}. {start}. If {}, {} are", reading.condition, percent(share));
    Ok(Check::found(CAUSE, TESTED * share, measured, advice).with_ap50(ap50))
}
