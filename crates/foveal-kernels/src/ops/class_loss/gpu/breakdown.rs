//! The breakdown of the class loss on a GPU: partial sums of chunks of rows, then the sums of the partial sums.
//!
//! A chunk consists of consecutive rows of one pyramid level of one image, and is summed by one workgroup. In a chunk,
//! each unit keeps to one class at a time, so that it sums the losses of that class by itself. The histogram of the
//! negatives' losses needs no atomic operations: for [`UNITS`] losses at a time, each bin belongs to units that go
//! through the losses and add those of their bin.
use cubecl::prelude::*;

use super::element::{Form, Shares, is_positive, pair, takes_part};
use super::units::{UNITS, sum_of_units};
use crate::ops::class_loss::breakdown::{BREAKDOWN_BINS, BREAKDOWN_LEVELS, FIRST, SHIFT};

/// Number of partial sums over a whole chunk: loss, gradient and score of positives and of negatives.
pub(super) const WHOLE: usize = 6;
/// Number of units that share a bin; each goes through a part of the losses.
const PER_BIN: usize = UNITS / BREAKDOWN_BINS;
/// Number of losses that one of the units of a bin goes through.
const SHARE: usize = UNITS.div_ceil(PER_BIN);
/// The bin of a loss that is in no bin.
const NO_BIN: u32 = u32::MAX;

/// Number of partial sums of a chunk: [`WHOLE`] over the chunk, then the losses of the positives and of the negatives
/// of each class, then the losses and the counts of each bin.
pub(super) const fn partial_values(classes: usize) -> usize {
    WHOLE + 2 * classes + 2 * BREAKDOWN_BINS
}

/// Number of rows of a chunk, so many that the partial sums of a chunk are a sixteenth of its pairs.
pub(super) fn chunk_rows(classes: usize) -> usize {
    (16 * partial_values(classes)).div_ceil(classes.max(1))
}

/// The bin of the loss of a negative, as `breakdown::bin` computes it on the host.
#[cube]
fn bin(loss: f32) -> u32 {
    let place = i32::cast_from(u32::reinterpret(loss) >> SHIFT) - FIRST + 1i32;
    let last = comptime!(BREAKDOWN_BINS as i32 - 1);
    let place = select(place < 0i32, 0i32, place);
    u32::cast_from(select(place > last, last, place))
}

/// Consecutive rows of the logits.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Rows {
    start: usize,
    end: usize,
}

/// The number of chunks of an image.
#[cube]
fn chunks_of_image(chunk_rows: usize, levels: &Sequence<usize>) -> usize {
    let mut chunks = 0usize;
    #[unroll]
    for level in 0..BREAKDOWN_LEVELS {
        chunks += levels[level].div_ceil(chunk_rows);
    }
    chunks
}

/// The rows of a chunk. There are `chunks` chunks of at most `chunk_rows` rows; a later one has no rows.
#[cube]
fn rows_of(chunk: usize, chunks: usize, chunk_rows: usize, levels: &Sequence<usize>) -> Rows {
    let of_image = chunks_of_image(chunk_rows, levels);
    let image = chunk / of_image;
    let place = chunk - image * of_image;
    let mut anchors = 0usize;
    #[unroll]
    for level in 0..BREAKDOWN_LEVELS {
        anchors += levels[level];
    }
    let mut first_chunk = 0usize;
    let mut first_row = image * anchors;
    let mut start = 0usize;
    let mut end = 0usize;
    #[unroll]
    for level in 0..BREAKDOWN_LEVELS {
        let of_level = levels[level].div_ceil(chunk_rows);
        let end_of_level = first_row + levels[level];
        if chunk < chunks && place >= first_chunk && place < first_chunk + of_level {
            start = first_row + (place - first_chunk) * chunk_rows;
            end = select(start + chunk_rows > end_of_level, end_of_level, start + chunk_rows);
        }
        first_chunk += of_level;
        first_row = end_of_level;
    }
    Rows { start, end }
}

/// Writes the partial sums of each chunk to `partials`, `[partial_values(classes), chunks]`.
///
/// `levels` has the number of anchors of each pyramid level in one image.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn partial_breakdown<E: Float>(
    logits: &Tensor<E>,
    ids: &Tensor<i32>,
    table: &[f32],
    partials: &mut [f32],
    shares: &Shares,
    levels: Sequence<usize>,
    chunks: usize,
    chunk_rows: usize,
    #[comptime] form: Form,
    #[define(E)] _dtype: ElemType,
) {
    let unit = UNIT_POS as usize;
    let chunk = CUBE_POS;
    let classes = logits.shape(1);

    let rows = rows_of(chunk, chunks, chunk_rows, &levels);

    // Units side by side have neighbouring classes of a row; units beyond the end of a row belong to the next row.
    let mut span = classes;
    if span > UNITS {
        span = UNITS.runtime();
    }
    let rows_at_once = UNITS / span;
    let own_row = unit / span;
    let own_column = unit - own_row * span;
    let rounds = (rows.end - rows.start).div_ceil(rows_at_once);

    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let mut losses = Shared::<[f32]>::new_slice(UNITS);
    let mut bins = Shared::<[u32]>::new_slice(UNITS);
    let own_bin = u32::cast_from(unit / PER_BIN);
    let share = unit % PER_BIN;
    let from = share * SHARE;

    let mut positive_loss = 0.0f32;
    let mut positive_slope = 0.0f32;
    let mut positive_score = 0.0f32;
    let mut negative_loss = 0.0f32;
    let mut negative_slope = 0.0f32;
    let mut negative_score = 0.0f32;
    let mut bin_loss = 0.0f32;
    let mut bin_count = 0.0f32;

    let mut block = 0usize;
    while block < classes {
        let column = block + own_column;
        let mut class_positives = 0.0f32;
        let mut class_negatives = 0.0f32;
        for round in 0..rounds {
            let row = rows.start + round * rows_at_once + own_row;
            let mut own_loss = 0.0f32;
            let mut place_of_loss = NO_BIN.runtime();
            if row < rows.end && own_row < rows_at_once && column < classes {
                let id = ids[row * ids.stride(0)];
                if takes_part(id) {
                    let x = f32::cast_from(logits[row * logits.stride(0) + column * logits.stride(1)]);
                    let found = pair(x, id, column, classes, table, shares, form);
                    let slope = found.gradient.abs();
                    if is_positive(id, column) {
                        class_positives += found.loss;
                        positive_slope += slope;
                        positive_score += found.score;
                    } else {
                        class_negatives += found.loss;
                        negative_slope += slope;
                        negative_score += found.score;
                        own_loss = found.loss;
                        place_of_loss = bin(found.loss);
                    }
                }
            }
            losses[unit] = own_loss;
            bins[unit] = place_of_loss;
            sync_cube();
            for i in 0..SHARE {
                let other = from + i;
                if other < UNITS && bins[other] == own_bin {
                    bin_loss += losses[other];
                    bin_count += 1.0f32;
                }
            }
            sync_cube();
        }
        positive_loss += class_positives;
        negative_loss += class_negatives;
        // The units of a class are `span` apart.
        let of_positives = sum_of_class(class_positives, span, &mut shared);
        let of_negatives = sum_of_class(class_negatives, span, &mut shared);
        if chunk < chunks && own_row == 0 && column < classes {
            partials[(WHOLE + column) * chunks + chunk] = of_positives;
            partials[(WHOLE + classes + column) * chunks + chunk] = of_negatives;
        }
        block += span;
    }

    let is_chunk = chunk < chunks;
    write_sum(positive_loss, chunk, is_chunk, partials, &mut shared);
    write_sum(negative_loss, chunks + chunk, is_chunk, partials, &mut shared);
    write_sum(positive_slope, 2 * chunks + chunk, is_chunk, partials, &mut shared);
    write_sum(negative_slope, 3 * chunks + chunk, is_chunk, partials, &mut shared);
    write_sum(positive_score, 4 * chunks + chunk, is_chunk, partials, &mut shared);
    write_sum(negative_score, 5 * chunks + chunk, is_chunk, partials, &mut shared);
    let bin_loss = sum_of_bin(bin_loss, &mut shared);
    let bin_count = sum_of_bin(bin_count, &mut shared);
    if chunk < chunks && share == 0 && unit / PER_BIN < BREAKDOWN_BINS {
        let at = WHOLE + 2 * classes + unit / PER_BIN;
        partials[at * chunks + chunk] = bin_loss;
        partials[(at + BREAKDOWN_BINS) * chunks + chunk] = bin_count;
    }
}

/// Writes the sum of a value over all units to `partials[at]`, if `writes` is set.
#[cube]
fn write_sum(value: f32, at: usize, writes: bool, partials: &mut [f32], shared: &mut Shared<[f32]>) {
    let sum = sum_of_units::<f32>(value, shared);
    if UNIT_POS == 0 && writes {
        partials[at] = sum;
    }
}

/// The sum of a value over the units of the same class, which are `span` apart, for the first of them.
#[cube]
fn sum_of_class(value: f32, span: usize, shared: &mut Shared<[f32]>) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut sum = 0.0f32;
    if unit < span {
        let mut other = unit;
        // Units after the last whole row have no pairs.
        while other < UNITS {
            sum += shared[other];
            other += span;
        }
    }
    sync_cube();
    sum
}

/// The sum of a value over the units of a bin, for the first of them.
#[cube]
fn sum_of_bin(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut sum = 0.0f32;
    for i in 0..PER_BIN {
        if unit + i < UNITS {
            sum += shared[unit + i];
        }
    }
    sync_cube();
    sum
}

/// Writes one value of the flat breakdown per workgroup to `sums`, which begins with two other sums. `levels` has the
/// number of anchors of each pyramid level in one image.
#[cube(launch_unchecked)]
pub(super) fn total_breakdown(
    partials: &[f32],
    sums: &mut [f32],
    levels: Sequence<usize>,
    classes: usize,
    chunks: usize,
    chunk_rows: usize,
) {
    let value = CUBE_POS;
    // The flat breakdown: losses and gradients by level, losses by class and by bin, scores by level, counts by bin.
    let by_level = comptime!(4 * BREAKDOWN_LEVELS);
    let scores = by_level + 2 * classes + BREAKDOWN_BINS;
    let counts = scores + comptime!(2 * BREAKDOWN_LEVELS);
    let mut partial = value / BREAKDOWN_LEVELS;
    let mut level_of_value = BREAKDOWN_LEVELS.runtime();
    if value < by_level {
        level_of_value = value % BREAKDOWN_LEVELS;
    } else if value >= counts {
        partial = WHOLE + 2 * classes + BREAKDOWN_BINS + value - counts;
    } else if value >= scores {
        partial = 4 + (value - scores) / BREAKDOWN_LEVELS;
        level_of_value = (value - scores) % BREAKDOWN_LEVELS;
    } else {
        partial = value + WHOLE - by_level;
    }

    // The chunks of an image that are added: those of the level, or all.
    let mut per_image = 0usize;
    let mut from = 0usize;
    let mut to = 0usize;
    #[unroll]
    for level in 0..BREAKDOWN_LEVELS {
        let of_level = levels[level].div_ceil(chunk_rows);
        if level_of_value == level {
            from = per_image;
            to = per_image + of_level;
        }
        per_image += of_level;
    }
    if level_of_value == BREAKDOWN_LEVELS {
        to = per_image;
    }
    let mut sum = 0.0f32;
    let mut chunk = UNIT_POS as usize;
    while chunk < chunks {
        let place = chunk % per_image;
        if place >= from && place < to {
            sum += partials[partial * chunks + chunk];
        }
        chunk += UNITS;
    }
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let sum = sum_of_units::<f32>(sum, &mut shared);
    if UNIT_POS == 0 && value < counts + BREAKDOWN_BINS {
        sums[value + 2] = sum;
    }
}
