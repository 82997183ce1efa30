//! Checks of the category ids.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::context::{Context, found};
use super::reading::Reading;
use super::{Check, TESTED};
use crate::EvalError;
use crate::image_boxes::{Best, Class, FITS, images, percent};

/// Part of what a permutation finds that a simpler rule must find.
const SIMPLER: f64 = 0.95;
/// Fraction of the detections of unknown categories from which they are a cause.
const UNKNOWN: f64 = 0.2;
/// Fraction of the objects of classes without detections from which they are a cause.
const MISSING: f64 = 0.25;
/// Largest number of rounds in which pairs of an assignment are exchanged.
const ROUNDS: usize = 20;
/// Largest number of examples in a message.
const EXAMPLES: usize = 3;
const CORRECTED: &str = "With corrected classes, ";

/// Number of matched pairs by the categories of the object and the detection.
type Counts = BTreeMap<(i64, i64), usize>;

/// Checks the category ids, and corrects them in the context if a reading finds many more objects.
///
/// # Errors
/// If hotcoco reports an error.
pub(super) fn check(context: &mut Context, checks: &mut Vec<Check>) -> Result<(), EvalError> {
    let others = [unknown(context), missing(context)];
    let before = checks.len();
    confused(context, checks)?;
    let explained = checks[before..].iter().any(|check| check.strength > 0.0);
    checks.extend(others.map(|mut check| {
        if explained {
            check.strength *= 0.3;
        }
        check
    }));
    Ok(())
}

fn confused(context: &mut Context, checks: &mut Vec<Check>) -> Result<(), EvalError> {
    let any = found(&context.sample, &context.sampled, Class::Any);
    let ignored = format!("{}, and {} if classes are ignored", context.start(), percent(any));
    if !context.is_gain(any) {
        checks.push(Check::nothing("category_ids_permuted", ignored));
        return Ok(());
    }
    let counts = counts(context);
    let names: HashMap<i64, &str> = context.truth.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    let name = |id: i64| {
        names.get(&id).map_or_else(|| format!("category {id}"), |name| foveal_base::printable(name).into_owned())
    };
    let named = |pairs: &mut dyn Iterator<Item = (i64, i64)>| -> String {
        let shown: Vec<String> =
            pairs.take(EXAMPLES).map(|(object, found)| format!("{} as {}", name(object), name(found))).collect();
        shown.join(", ")
    };
    let detected: BTreeSet<i64> = context.detections.iter().map(|d| d.category_id).collect();
    if detected.len() == 1 && context.truth.categories.len() > 1 {
        let measured = format!("All detections are of {}. {ignored}", name(detected.first().copied().unwrap_or(0)));
        let advice = "Write the class of each detection as category_id; if the detector has one class, give it one in the \
                      annotations too";
        checks.push(Check::found("one_class", TESTED * any, measured, advice));
        return Ok(());
    }
    let assignment = assign(&counts);
    let mut swaps: Vec<(usize, i64, i64)> = assignment
        .iter()
        .filter(|(found, object)| found != object)
        .map(|(&found, &object)| (counts.get(&(object, found)).copied().unwrap_or(0), object, found))
        .collect();
    swaps.sort_unstable_by(|a, b| b.cmp(a));
    let examples = named(&mut swaps.iter().map(|&(_, object, found)| (object, found)));
    let condition = format!("the categories are exchanged one to one ({examples})");
    let permutation = Reading { condition, categories: Some(assignment), ..Reading::default() };
    let share = context.test(&permutation, Class::Same);
    let simple = context.best(rules(context, &counts), Class::Same);
    let most = simple.as_ref().map_or(share, |(found, _)| found.max(share));
    if let Some((found, reading)) = simple.filter(|(found, _)| *found >= SIMPLER * most && context.is_gain(*found)) {
        let advice = "Write the id of the category in the annotation file as category_id: the list of classes is shifted or \
                      numbered anew";
        checks.push(context.accept("category_ids_shifted", found, &reading, advice, CORRECTED)?);
    } else if context.is_gain(share) {
        let advice =
            "Use the list of classes of the annotations, in the same order, in training and for the detections";
        checks.push(context.accept("category_ids_permuted", share, &permutation, advice, CORRECTED)?);
    } else {
        let mut pairs: Vec<(usize, i64, i64)> =
            counts.iter().filter(|((a, b), _)| a != b).map(|(&(a, b), &count)| (count, a, b)).collect();
        pairs.sort_unstable_by(|a, b| b.cmp(a));
        let examples = named(&mut pairs.iter().map(|&(_, object, found)| (object, found)));
        let measured = format!(
            "{ignored}, and {} if categories are exchanged one to one. The most frequent confusions are {examples}",
            percent(share)
        );
        let advice = "The boxes are right and the classes are not: check the categories of the training data, whether the \
                      class loss falls, and whether classes can be told apart";
        checks.push(Check::found("classes_confused", TESTED * any, measured, advice));
    }
    Ok(())
}

/// The numbers of matched pairs by category.
fn counts(context: &Context) -> Counts {
    let mut counts = Counts::new();
    for entry in images(&context.sample, &context.sampled) {
        for (object, detection) in entry.pairs(Best::TwoAnObject, FITS, Class::Any) {
            *counts.entry((object.category_id, detection.category_id)).or_default() += 1;
        }
    }
    counts
}

/// The one-to-one assignment of categories of objects to categories of detections with the most matched pairs: greedy,
/// then improved by exchanges of two. Categories of detections without an object category left keep none.
fn assign(counts: &Counts) -> HashMap<i64, i64> {
    let mut sorted: Vec<((i64, i64), usize)> = counts.iter().map(|(&pair, &count)| (pair, count)).collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let (mut used, mut map): (HashSet<i64>, HashMap<i64, i64>) = Default::default();
    for ((object, found), _) in sorted {
        if !used.contains(&object) && !map.contains_key(&found) {
            used.insert(object);
            map.insert(found, object);
        }
    }
    let count = |object: i64, found: i64| counts.get(&(object, found)).copied().unwrap_or(0);
    let mut keys: Vec<i64> = map.keys().copied().collect();
    keys.sort_unstable();
    for _ in 0..ROUNDS {
        let mut changed = false;
        for (i, &a) in keys.iter().enumerate() {
            for &b in &keys[i + 1..] {
                let (x, y) = (map[&a], map[&b]);
                if count(y, a) + count(x, b) > count(x, a) + count(y, b) {
                    map.insert(a, y);
                    map.insert(b, x);
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    map
}

/// The readings of category ids by a rule: a number added to all, or positions in a list of the categories.
fn rules(context: &Context, counts: &Counts) -> Vec<Reading> {
    let detected: BTreeSet<i64> = context.detections.iter().map(|d| d.category_id).collect();
    let reading =
        |condition: String, map: HashMap<i64, i64>| Reading { condition, categories: Some(map), ..Reading::default() };
    let mut steps: BTreeMap<i64, usize> = BTreeMap::new();
    for ((object, found), count) in counts {
        *steps.entry(object.wrapping_sub(*found)).or_default() += count;
    }
    let most = steps.iter().filter(|(step, _)| **step != 0).max_by_key(|(_, count)| **count).map(|(&step, _)| step);
    let mut readings: Vec<Reading> = most
        .into_iter()
        .map(|step| {
            let what = if step > 0 { "added to" } else { "subtracted from" };
            let condition = format!("{} is {what} every category_id", step.unsigned_abs());
            reading(condition, detected.iter().map(|&id| (id, id.wrapping_add(step))).collect())
        })
        .collect();
    let sorted: Vec<i64> =
        context.truth.categories.iter().map(|c| c.id).collect::<BTreeSet<i64>>().into_iter().collect();
    let in_file: Vec<i64> = context.truth.categories.iter().map(|c| c.id).collect();
    let orders = [(&sorted, "the order of the ids"), (&in_file, "the annotation file")];
    for (order, name) in orders.into_iter().take(if sorted == in_file { 1 } else { 2 }) {
        for base in [0, 1] {
            let map: HashMap<i64, i64> = order.iter().zip(base..).map(|(&id, at)| (at, id)).collect();
            readings.push(reading(format!("category_id is the position of the category in {name}, from {base}"), map));
        }
        for step in [1, order.len().saturating_sub(1)] {
            // Neighbours in the list, which for ids with gaps is not a number added to all.
            let map = order.iter().enumerate().map(|(at, &id)| (id, order[(at + step) % order.len()])).collect();
            let side = if step == 1 { "next" } else { "previous" };
            readings.push(reading(format!("each category is the {side} one in {name}"), map));
        }
    }
    readings
}

/// The check of detections of categories that the annotations do not list.
fn unknown(context: &Context) -> Check {
    let known: HashSet<i64> = context.truth.categories.iter().map(|c| c.id).collect();
    let all = context.detections.len();
    let others: BTreeSet<i64> =
        context.detections.iter().map(|d| d.category_id).filter(|id| !known.contains(id)).collect();
    let count = context.detections.iter().filter(|d| !known.contains(&d.category_id)).count();
    let first = others.first().map_or_else(String::new, |id| format!(", such as {id}"));
    let measured = format!("{count} of {all} detections are of categories that the annotations do not list{first}");
    let share = count as f64 / all.max(1) as f64;
    if share < UNKNOWN {
        return Check::nothing("category_ids_unknown", measured);
    }
    let advice = "Check that category_id is the id of a category in the annotation file";
    Check::found("category_ids_unknown", 0.9 * share, measured, advice)
}

/// The check of categories that have objects but no detections.
fn missing(context: &Context) -> Check {
    let detected: HashSet<i64> = context.detections.iter().map(|d| d.category_id).collect();
    let mut without: BTreeMap<i64, usize> = BTreeMap::new();
    let objects = context.truth.annotations.iter().filter(|a| !a.iscrowd);
    let all = objects.clone().count();
    for object in objects.filter(|a| !detected.contains(&a.category_id)) {
        *without.entry(object.category_id).or_default() += 1;
    }
    let count: usize = without.values().sum();
    let named: Vec<String> = context
        .truth
        .categories
        .iter()
        .filter(|c| without.contains_key(&c.id))
        .take(EXAMPLES)
        .map(|c| foveal_base::printable(&c.name).into_owned())
        .collect();
    let examples = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    let measured = format!("{} categories with {count} of {all} objects have no detection{examples}", without.len());
    let share = count as f64 / all.max(1) as f64;
    if share < MISSING {
        return Check::nothing("classes_without_detections", measured);
    }
    let advice = "Check whether the training data has objects of these categories, and whether their names and ids are those \
                  of the annotations";
    Check::found("classes_without_detections", 0.8 * share, measured, advice)
}
