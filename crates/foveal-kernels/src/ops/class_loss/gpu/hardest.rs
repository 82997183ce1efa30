//! The selection of the hardest background anchors on a GPU, by the rule of [`super::super::hardest::keep_hardest`].
//!
//! The rank of the last anchor of an image that is kept is found digit by digit, from the first: the anchors of each
//! digit are counted, and the digit is the one that the number of anchors to keep falls into. Of the anchors with
//! exactly that rank, the first are kept. The anchors of an image are divided into slices, one for each unit.
use cubecl::prelude::*;

use crate::ops::class_loss::{BACKGROUND, IGNORE};

/// The sign of an `f32`.
const SIGN: u32 = 0x8000_0000;
/// Number of bits of a digit.
pub(super) const BITS: u32 = 8;
/// Number of values of a digit.
pub(super) const DIGITS: usize = 1 << BITS;
/// Number of anchors of a slice.
pub(super) const SLICE: usize = 256;

/// A number whose order is that of `f32::total_cmp` of the costs.
#[cube]
fn rank(cost: f32) -> u32 {
    let bits = u32::reinterpret(cost);
    select(bits >= SIGN, !bits, bits | SIGN)
}

/// Counts, for each slice of an image, the background anchors of each value of a digit, among those whose digits before
/// it are those found. `counts` is `[DIGITS, images * slices]`; `found` is `[images]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn count_digits(
    costs: &Tensor<f32>,
    ids: &Tensor<i32>,
    found: &[u32],
    counts: &mut [u32],
    images: usize,
    slices: usize,
    #[comptime] shift: u32,
) {
    let unit = ABSOLUTE_POS;
    let units = images * slices;
    if unit < units {
        let image = unit / slices;
        let start = (unit - image * slices) * SLICE;
        let anchors = costs.shape(1);
        for digit in 0..DIGITS {
            counts[digit * units + unit] = 0u32;
        }
        for i in 0..SLICE {
            let anchor = start + i;
            if anchor < anchors && ids[(image * anchors + anchor) * ids.stride(0)] == BACKGROUND {
                let own = rank(costs[image * costs.stride(0) + anchor * costs.stride(1)]);
                let digits = own >> shift;
                let mut counted = true;
                if comptime!(shift + BITS < 32) {
                    counted = (digits >> BITS) == found[image];
                }
                if counted {
                    let at = usize::cast_from(digits % comptime!(DIGITS as u32)) * units + unit;
                    let count = counts[at] + 1u32;
                    counts[at] = count;
                }
            }
        }
    }
}

/// Adds up the counts of the slices of each image, `[DIGITS, images * slices]`, to `totals`, `[images, DIGITS]`.
#[cube(launch_unchecked)]
pub(super) fn total_digits(counts: &[u32], totals: &mut [u32], images: usize, slices: usize) {
    let at = ABSOLUTE_POS;
    if at < images * DIGITS {
        let image = at / DIGITS;
        let digit = at - image * DIGITS;
        let mut total = 0u32;
        for slice in 0..slices {
            total += counts[(digit * images + image) * slices + slice];
        }
        totals[at] = total;
    }
}

/// Appends the digit that the number of anchors to keep falls into to those `found` in each image, `[images]`, and
/// subtracts the anchors of higher digits from the number `left`, `[images]`. The number of anchors to `keep` is that
/// of the first digit.
#[cube(launch_unchecked)]
pub(super) fn find_digit(
    totals: &[u32],
    keep: &Tensor<i32>,
    found: &mut [u32],
    left: &mut [u32],
    images: usize,
    #[comptime] first: bool,
) {
    let image = ABSOLUTE_POS;
    if image < images {
        let mut before = 0u32;
        let mut rest = u32::cast_from(keep[image * keep.stride(0)]);
        if comptime!(!first) {
            before = found[image] << BITS;
            rest = left[image];
        }
        // The lowest digit, if there are fewer anchors than are to be kept.
        let mut digit = 0u32;
        let mut searching = true;
        for i in 0..DIGITS - 1 {
            let candidate = DIGITS - 1 - i;
            if searching {
                let count = totals[image * DIGITS + candidate];
                if count >= rest {
                    digit = u32::cast_from(candidate);
                    searching = false;
                } else {
                    rest -= count;
                }
            }
        }
        found[image] = before | digit;
        left[image] = rest;
    }
}

/// Counts the background anchors of each slice whose rank is the last that is kept, `[images]`. `ties` is
/// `[images * slices]`.
#[cube(launch_unchecked)]
pub(super) fn count_ties(
    costs: &Tensor<f32>,
    ids: &Tensor<i32>,
    last: &[u32],
    ties: &mut [u32],
    images: usize,
    slices: usize,
) {
    let unit = ABSOLUTE_POS;
    if unit < images * slices {
        let image = unit / slices;
        let start = (unit - image * slices) * SLICE;
        let anchors = costs.shape(1);
        let mut count = 0u32;
        for i in 0..SLICE {
            let anchor = start + i;
            if anchor < anchors && ids[(image * anchors + anchor) * ids.stride(0)] == BACKGROUND {
                let own = rank(costs[image * costs.stride(0) + anchor * costs.stride(1)]);
                count += select(own == last[image], 1u32, 0u32);
            }
        }
        ties[unit] = count;
    }
}

/// Writes to `kept`, `[images * anchors]`, the classes of the anchors, in which background anchors are ignored unless
/// their rank is above the last, or is the last and they are among the first `left` of these.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn write_kept(
    costs: &Tensor<f32>,
    ids: &Tensor<i32>,
    last: &[u32],
    left: &[u32],
    ties: &[u32],
    kept: &mut [i32],
    images: usize,
    slices: usize,
) {
    let unit = ABSOLUTE_POS;
    if unit < images * slices {
        let image = unit / slices;
        let slice = unit - image * slices;
        let anchors = costs.shape(1);
        let mut before = 0u32;
        for other in 0..slice {
            before += ties[image * slices + other];
        }
        for i in 0..SLICE {
            let anchor = slice * SLICE + i;
            if anchor < anchors {
                let id = ids[(image * anchors + anchor) * ids.stride(0)];
                let mut out = id;
                if id == BACKGROUND {
                    let own = rank(costs[image * costs.stride(0) + anchor * costs.stride(1)]);
                    let mut stays = own > last[image];
                    if own == last[image] {
                        stays = before < left[image];
                        before += 1u32;
                    }
                    out = select(stays, BACKGROUND, IGNORE);
                }
                kept[image * anchors + anchor] = out;
            }
        }
    }
}
