//! The breakdown of the class loss on a GPU: partial sums of every unit, then the sums of the partial sums.
//!
//! The rows are divided among groups of units. The units of a group have one class each, so that a unit sums the losses
//! of its class by itself. Each unit has a histogram of its own in global memory, so that none has to wait for others.
//! The loss of a bin is a running sum of `f32`, whose rounding error grows with the number of rows of a unit; the other
//! sums are made of short ones.
use cubecl::prelude::*;

use super::element::{Form, Shares, is_positive, pair, takes_part};
use super::fold::INNER;
use crate::ops::class_loss::breakdown::{BREAKDOWN_BINS, BREAKDOWN_LEVELS, FIRST, SHIFT};

/// Number of sums of each pyramid level: loss, gradient and score of positives and of negatives.
const OF_LEVEL: usize = 6;
/// Place of the sum of the losses of the positives of a unit's class; the sum of the negatives' follows.
const OF_CLASS: usize = OF_LEVEL * BREAKDOWN_LEVELS;
/// Place of the losses of the bins; their counts follow.
const OF_BINS: usize = OF_CLASS + 2;
/// Number of partial sums of a unit.
pub(super) const PARTIALS: usize = OF_BINS + 2 * BREAKDOWN_BINS;

/// The bin of the loss of a negative, as `breakdown::bin` computes it on the host.
#[cube]
fn bin(loss: f32) -> usize {
    let place = i32::cast_from(u32::reinterpret(loss) >> SHIFT) - FIRST + 1i32;
    let last = comptime!(BREAKDOWN_BINS as i32 - 1);
    let place = select(place < 0i32, 0i32, place);
    usize::cast_from(select(place > last, last, place))
}

/// Sums over the pairs of a unit on one pyramid level.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Sides {
    positive_loss: f32,
    negative_loss: f32,
    positive_slope: f32,
    negative_slope: f32,
    positive_score: f32,
    negative_score: f32,
}

/// Sums the pairs of a unit on one pyramid level, and adds the losses of its negatives to the unit's histogram.
///
/// The level has `anchors` anchors from `first` on in each image of `image_anchors` anchors.
#[cube]
#[allow(clippy::too_many_arguments)]
fn sides_of_level<E: Float>(
    logits: &Tensor<E>,
    ids: &Tensor<i32>,
    table: &[f32],
    partials: &mut [f32],
    shares: &Shares,
    groups: usize,
    anchors: usize,
    first: usize,
    image_anchors: usize,
    #[comptime] form: Form,
) -> Sides {
    let unit = ABSOLUTE_POS;
    let classes = logits.shape(1);
    let units = groups * classes;
    let group = unit / classes;
    let column = unit - group * classes;
    let rows = (logits.shape(0) / image_anchors) * anchors;
    let rounds = rows.div_ceil(groups * INNER);
    let mut sides = Sides {
        positive_loss: 0.0f32,
        negative_loss: 0.0f32,
        positive_slope: 0.0f32,
        negative_slope: 0.0f32,
        positive_score: 0.0f32,
        negative_score: 0.0f32,
    };
    for round in 0..rounds {
        let mut positive_loss = 0.0f32;
        let mut negative_loss = 0.0f32;
        let mut positive_slope = 0.0f32;
        let mut negative_slope = 0.0f32;
        let mut positive_score = 0.0f32;
        let mut negative_score = 0.0f32;
        for i in 0..INNER {
            let place = (round * INNER + i) * groups + group;
            if place < rows {
                let image = place / anchors;
                let row = image * image_anchors + first + (place - image * anchors);
                let id = ids[row * ids.stride(0)];
                if takes_part(id) {
                    let x = f32::cast_from(logits[row * logits.stride(0) + column * logits.stride(1)]);
                    let found = pair(x, id, column, classes, table, shares, form);
                    let slope = found.gradient.abs();
                    if is_positive(id, column) {
                        positive_loss += found.loss;
                        positive_slope += slope;
                        positive_score += found.score;
                    } else {
                        negative_loss += found.loss;
                        negative_slope += slope;
                        negative_score += found.score;
                        let at = (OF_BINS + bin(found.loss)) * units + unit;
                        let sum = partials[at] + found.loss;
                        partials[at] = sum;
                        let count = partials[at + BREAKDOWN_BINS * units] + 1.0f32;
                        partials[at + BREAKDOWN_BINS * units] = count;
                    }
                }
            }
        }
        sides.positive_loss += positive_loss;
        sides.negative_loss += negative_loss;
        sides.positive_slope += positive_slope;
        sides.negative_slope += negative_slope;
        sides.positive_score += positive_score;
        sides.negative_score += negative_score;
    }
    sides
}

/// Writes the partial sums of each unit to `partials`, `[PARTIALS, units]`. There are `groups` groups with one unit for
/// each class. `levels` has the number of anchors of each pyramid level in one image.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn partial_breakdown<E: Float>(
    logits: &Tensor<E>,
    ids: &Tensor<i32>,
    table: &[f32],
    partials: &mut [f32],
    shares: &Shares,
    levels: Sequence<usize>,
    groups: usize,
    image_anchors: usize,
    #[comptime] form: Form,
    #[define(E)] _dtype: ElemType,
) {
    let unit = ABSOLUTE_POS;
    let units = groups * logits.shape(1);
    if unit < units {
        for i in 0..2 * BREAKDOWN_BINS {
            partials[(OF_BINS + i) * units + unit] = 0.0f32;
        }
        let mut positives = 0.0f32;
        let mut negatives = 0.0f32;
        let mut first = 0usize;
        #[unroll]
        for level in 0..BREAKDOWN_LEVELS {
            let anchors = levels[level];
            let sides =
                sides_of_level::<E>(logits, ids, table, partials, shares, groups, anchors, first, image_anchors, form);
            let at = level * OF_LEVEL * units + unit;
            partials[at] = sides.positive_loss;
            partials[at + units] = sides.negative_loss;
            partials[at + 2 * units] = sides.positive_slope;
            partials[at + 3 * units] = sides.negative_slope;
            partials[at + 4 * units] = sides.positive_score;
            partials[at + 5 * units] = sides.negative_score;
            positives += sides.positive_loss;
            negatives += sides.negative_loss;
            first += anchors;
        }
        partials[OF_CLASS * units + unit] = positives;
        partials[(OF_CLASS + 1) * units + unit] = negatives;
    }
}

/// Writes one value of the flat breakdown in each unit to `sums`, which begins with two other sums. `folded` is
/// `[PARTIALS, width]` and has the same sums as `partials`, `[PARTIALS, groups * classes]`.
#[cube(launch_unchecked)]
pub(super) fn total_breakdown(
    partials: &[f32],
    folded: &[f32],
    sums: &mut [f32],
    classes: usize,
    groups: usize,
    width: usize,
) {
    let value = ABSOLUTE_POS;
    // The flat breakdown: losses and gradients by level, losses by class and by bin, scores by level, counts by bin.
    let by_level = comptime!(4 * BREAKDOWN_LEVELS);
    let bins = by_level + 2 * classes;
    let scores = bins + BREAKDOWN_BINS;
    let counts = scores + comptime!(2 * BREAKDOWN_LEVELS);
    if value < counts + BREAKDOWN_BINS {
        let mut sum = 0.0f32;
        if value >= by_level && value < bins {
            let side = (value - by_level) / classes;
            let class = value - by_level - side * classes;
            for group in 0..groups {
                sum += partials[(OF_CLASS + side) * groups * classes + group * classes + class];
            }
        } else {
            let mut row = (value % BREAKDOWN_LEVELS) * OF_LEVEL + value / BREAKDOWN_LEVELS;
            if value >= counts {
                row = OF_BINS + BREAKDOWN_BINS + value - counts;
            } else if value >= scores {
                let place = value - scores;
                row = (place % BREAKDOWN_LEVELS) * OF_LEVEL + 4 + place / BREAKDOWN_LEVELS;
            } else if value >= bins {
                row = OF_BINS + value - bins;
            }
            for i in 0..width {
                sum += folded[row * width + i];
            }
        }
        sums[value + 2] = sum;
    }
}
