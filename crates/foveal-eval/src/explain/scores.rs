//! Checks of the scores, of how many detections there are, and of how well they fit.

use std::collections::HashMap;

use foveal_boxes::{BBox, class_nms};
use foveal_coco::{CocoDetection, xywh_to_bbox};

use super::context::Context;
use super::measured::average_precision;
use super::reading::Reading;
use super::{Check, TESTED};
use crate::EvalError;
use crate::image_boxes::{Best, Class, FITS, ImageBoxes, images, object_count, percent, share_found};

/// Difference of AP50, and ratio, from which a correction is a cause.
const GAIN: f64 = 0.1;
const TIMES: f64 = 1.2;
/// Fraction of the detections with one score from which equal scores are a cause.
const EQUAL: f64 = 0.5;
/// IoU of detections of one class from which they are duplicates.
const DUPLICATE: f32 = 0.5;
/// IoU from which a detection overlaps an object, without necessarily fitting it.
const TOUCHES: f32 = 0.1;
/// Strength of causes that are only weak hints, at most.
const HINT: f64 = 0.3;

/// The number of matched objects and detections.
struct Counts {
    objects: usize,
    detections: usize,
    /// Fraction of the objects that a detection of any class fits.
    found: f64,
    /// Fraction of the objects that a detection of their class fits.
    found_same: f64,
    /// Fraction of the detections, at most two an object, that fit an object of any class.
    right: f64,
    lowest: f64,
    highest: f64,
}

/// Checks the scores and the detections as a whole.
///
/// # Errors
/// If hotcoco reports an error.
pub(super) fn check(context: &mut Context, checks: &mut Vec<Check>) -> Result<(), EvalError> {
    order(context, checks)?;
    checks.push(duplicates(context)?);
    let each = images(&context.sample, &context.sampled);
    let counts = Counts::of(&each);
    let limit = limit(&each);
    let mut threshold = threshold(&counts);
    if limit.strength > 0.0 {
        // Detections that stop at one number in most images are limited in number, not by their score.
        threshold.strength *= 0.5;
    }
    let many = [limit, threshold];
    let explained = checks.iter().chain(&many).any(|check| check.strength > HINT);
    checks.extend(many);
    checks.push(loose(&each, explained));
    checks.push(mixed(context, &counts, explained));
    checks.push(unrelated(context, &counts, checks.iter().any(|check| check.strength > 0.0)));
    Ok(())
}

impl Counts {
    fn of(each: &[ImageBoxes]) -> Self {
        let detections: usize = each.iter().map(|entry| entry.detections.len()).sum();
        let (mut right, mut best) = (0, 0);
        for entry in each {
            right += entry.pairs(Best::TwoAnObject, FITS, Class::Any).len();
            best += entry.best(Best::TwoAnObject).len();
        }
        let scores = each.iter().flat_map(|entry| entry.detections.iter().map(|d| d.score));
        Self {
            objects: object_count(each),
            detections,
            found: share_found(each, Best::All, FITS, Class::Any),
            found_same: share_found(each, Best::All, FITS, Class::Same),
            right: right as f64 / best.max(1) as f64,
            lowest: scores.clone().fold(f64::INFINITY, f64::min),
            highest: scores.fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// The checks of the order of the scores.
fn order(context: &mut Context, checks: &mut Vec<Check>) -> Result<(), EvalError> {
    let mut counts: HashMap<u64, usize> = HashMap::new();
    context.detections.iter().for_each(|d| *counts.entry(d.score.to_bits()).or_default() += 1);
    let all = context.detections.len();
    let (bits, most) = counts.iter().max_by_key(|(bits, count)| (**count, **bits)).map_or((0, 0), |(b, c)| (*b, *c));
    let measured = format!(
        "{most} of {all} detections have the score {:.4}, the most frequent of {}",
        f64::from_bits(bits),
        counts.len()
    );
    let share = most as f64 / all.max(1) as f64;
    let found = share_found(&images(&context.truth, &context.detections), Best::All, FITS, Class::Same);
    let lost = (found - context.ap50.max(0.0)).max(0.0);
    checks.push(if all > 1 && share >= EQUAL && lost >= GAIN / 2.0 {
        let advice = "Write the confidence of each detection as its score: AP depends on the order of the scores. Check \
                      whether they are rounded";
        Check::found("scores_equal", TESTED * share * found.max(lost), measured, advice)
    } else {
        Check::nothing("scores_equal", measured)
    });
    let reading =
        Reading { condition: "the order of the scores is reversed".to_owned(), reversed: true, ..Reading::default() };
    let ap50 = context.ap50_under(&reading)?;
    let measured = format!(
        "{}AP50 is {:.3}, and {ap50:.3} if the order of the scores is reversed",
        context.corrected,
        context.ap50.max(0.0)
    );
    if !is_gain(context, ap50) {
        checks.push(Check::nothing("scores_reversed", measured));
        return Ok(());
    }
    let advice = "Write scores that are higher for more confident detections: probabilities, not distances or losses";
    checks.push(Check::found("scores_reversed", TESTED * ap50, measured, advice).with_ap50(Some(ap50)));
    context.correct(&reading, "With reversed scores, ")
}

fn is_gain(context: &Context, ap50: f64) -> bool {
    let before = context.ap50.max(0.0);
    ap50 >= before + GAIN && ap50 >= TIMES * before
}

/// The check of several detections of one object.
fn duplicates(context: &Context) -> Result<Check, EvalError> {
    let mut by_image: HashMap<i64, Vec<&CocoDetection>> = HashMap::new();
    context.detections.iter().for_each(|d| by_image.entry(d.image_id).or_default().push(d));
    let mut ids: Vec<i64> = by_image.keys().copied().collect();
    ids.sort_unstable();
    let mut kept = Vec::new();
    for id in ids {
        let found = &by_image[&id];
        let boxes: Vec<BBox> = found.iter().map(|d| xywh_to_bbox(&d.bbox)).collect();
        let scores: Vec<f32> = found.iter().map(|d| d.score as f32).collect();
        let mut numbers: HashMap<i64, u32> = HashMap::new();
        let classes: Vec<u32> = found
            .iter()
            .map(|d| {
                let next = numbers.len() as u32;
                *numbers.entry(d.category_id).or_insert(next)
            })
            .collect();
        kept.extend(class_nms(&boxes, &scores, &classes, DUPLICATE).into_iter().map(|index| *found[index]));
    }
    let ap50 = average_precision(&context.truth, &kept)?;
    let (all, removed) = (context.detections.len(), context.detections.len() - kept.len());
    let measured = format!(
        "{removed} of {all} detections overlap a better one of their class with an IoU above {DUPLICATE}. {}AP50 is {:.3}, \
         and {ap50:.3} without them",
        context.corrected,
        context.ap50.max(0.0)
    );
    if !is_gain(context, ap50) {
        return Ok(Check::nothing("duplicates", measured));
    }
    let advice = "Apply non-maximum suppression (eval.nms), and check that detections are not written twice";
    Ok(Check::found("duplicates", TESTED * ap50.max(0.5), measured, advice).with_ap50(Some(ap50)))
}

/// The check of a limit of the number of detections in an image.
fn limit(each: &[ImageBoxes]) -> Check {
    let most = each.iter().map(|entry| entry.detections.len()).max().unwrap_or(0);
    let with: usize = each.iter().filter(|entry| !entry.detections.is_empty()).count();
    let at = each.iter().filter(|entry| entry.detections.len() == most).count();
    let beyond: usize = each.iter().map(|entry| entry.objects.len().saturating_sub(most)).sum();
    let share = beyond as f64 / object_count(each).max(1) as f64;
    let measured = format!(
        "No image has more than {most} detections, and {at} of {with} images with detections have as many; {} of the \
         objects exceed that number in their image",
        percent(share)
    );
    if 2 * at < with || share < 0.15 {
        return Check::nothing("detection_limit", measured);
    }
    let advice = "Allow more detections in an image (eval.max_detections, 100 in COCO's metrics) and candidates \
                  (eval.pre_nms)";
    Check::found("detection_limit", TESTED * share, measured, advice)
}

/// The check of detections that are right but few.
fn threshold(counts: &Counts) -> Check {
    let &Counts { objects, detections, found, right, lowest, highest, .. } = counts;
    let measured = format!(
        "There are {detections} detections for {objects} objects, with scores from {lowest:.3} to {highest:.3}; {} of them \
         fit an object, and {} of the objects are found",
        percent(right),
        percent(found)
    );
    let few = (detections as f64) < 0.8 * objects as f64;
    let missed = 1.0 - found;
    if !few || missed < 0.3 {
        return Check::nothing("score_threshold", measured);
    }
    // Without low scores, detections were dropped; with them, the detector has none to give.
    let cut = if (0.0..0.15).contains(&lowest) { 0.5 } else { 1.0 };
    let advice =
        "Keep detections of low scores for an evaluation: AP needs them (eval.score_threshold, 0.05 by default)";
    Check::found("score_threshold", TESTED * missed * right.max(0.5) * cut, measured, advice)
}

/// The check of detections at objects that do not fit them.
fn loose(each: &[ImageBoxes], explained: bool) -> Check {
    let touched = share_found(each, Best::TwoAnObject, TOUCHES, Class::Same);
    let found = share_found(each, Best::TwoAnObject, FITS, Class::Same);
    let measured = format!(
        "{} of the objects have a detection with an IoU of at least {FITS}, and {} one with an IoU of at least {TOUCHES}",
        percent(found),
        percent(touched)
    );
    if touched < found + 0.2 || touched < 1.5 * found || touched < 0.3 {
        return Check::nothing("loose_boxes", measured);
    }
    let advice = "The objects are found, but the boxes do not fit. Check the fit of the anchors with `foveal anchors \
                  coverage`, the weight of the box loss (loss.box_weight) and whether it falls";
    let strength = (if explained { HINT } else { 0.8 }) * (touched - found);
    Check::found("loose_boxes", strength, measured, advice)
}

/// The check of objects that are found below many false alarms.
fn mixed(context: &Context, counts: &Counts, explained: bool) -> Check {
    let ap50 = context.ap50.max(0.0);
    let measured = format!(
        "{} of the objects are found by a detection of any score, and AP50 is {ap50:.3}: there are {:.1} detections for \
         each object, with scores up to {:.3}",
        percent(counts.found_same),
        counts.detections as f64 / counts.objects.max(1) as f64,
        counts.highest
    );
    if ap50 > 0.5 || counts.found_same < 0.25 || ap50 > 0.6 * counts.found_same {
        return Check::nothing("scores_do_not_separate", measured);
    }
    let advice = "False alarms have higher scores than objects. This is normal early in training; later check the class loss \
                  and whether the annotations have all objects";
    let strength = (if explained { 0.3 } else { 1.0 }) * HINT * (counts.found_same - ap50).max(0.1);
    Check::found("scores_do_not_separate", strength, measured, advice)
}

/// The check of detections that fit no objects, whatever they are read as.
fn unrelated(context: &Context, counts: &Counts, explained: bool) -> Check {
    let ap50 = context.ap50.max(0.0);
    let measured = format!(
        "AP50 is {ap50:.3}, {} of the objects are found, and the highest score is {:.3}",
        percent(counts.found_same),
        counts.highest
    );
    if explained || ap50 >= 0.1 {
        return Check::nothing("unrelated_detections", measured);
    }
    let advice = "No other reading of boxes, ids or scores explains this. A low AP is normal early in training; later, check \
                  with `foveal train --overfit 8` whether the model can learn a few images, and whether images and \
                  annotations belong together";
    Check::found("unrelated_detections", 0.5 * HINT, measured, advice)
}
