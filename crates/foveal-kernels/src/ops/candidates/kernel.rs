//! The GPU kernels that pick the candidates. Logits and deltas are read as the bits of their values, so that no
//! compiler can assume that they are finite.
use cubecl::prelude::*;

use super::{HEADER, RECORD};

/// Logits of at most this value have the score 0 in `f32`, because `exp(90)` is infinite.
pub(super) const LOWEST: f32 = -90.0;
/// All logits of at least this value are in the last bin. The scores of lower logits differ from theirs by far more
/// than a rounding error, if the logits differ by the width of a bin.
const HIGHEST: f32 = 10.0;
/// Number of bins of the histogram that a logit of 1 spans.
const BINS_PER_LOGIT: f32 = 16.0;
/// Number of bins of the histogram of an image's level.
pub(super) const BINS: usize = 1601;
/// Number of logits or deltas that a unit reads.
pub(super) const VALUES: usize = 8;
/// The bits of an `f32` without its sign.
const MAGNITUDE: u32 = 0x7FFF_FFFF;
/// The bits of infinity. As integers, the magnitudes of all finite values are below it, and those of NaN above it.
const INFINITY: u32 = 0x7F80_0000;

/// The bin of a logit above [`LOWEST`], for the host.
pub(super) fn bin_on_host(logit: f32) -> usize {
    ((logit.clamp(LOWEST, HIGHEST) - LOWEST) * BINS_PER_LOGIT) as usize
}

#[cube]
fn bin_of(logit: f32) -> usize {
    u32::cast_from((min(max(logit, LOWEST), HIGHEST) - LOWEST) * BINS_PER_LOGIT) as usize
}

/// The pyramid level of an anchor. `table` begins with the first anchor after each level.
#[cube]
#[allow(clippy::needless_range_loop, reason = "kernels have no iterators over slices")]
fn level_of(anchor: usize, table: &[u32], #[comptime] levels: usize) -> usize {
    let mut level = 0usize;
    #[unroll]
    for i in 0..levels - 1 {
        if anchor >= table[i] as usize {
            level = i + 1;
        }
    }
    level
}

/// The first value of a unit. Its other values follow in steps of the number of units in a cube, so that neighbouring
/// units read neighbouring values.
#[cube]
fn first_value() -> usize {
    CUBE_POS * CUBE_DIM as usize * VALUES + UNIT_POS as usize
}

/// Adds the logits that are above the cut, of channels with a class, to the histogram of their image and level, and
/// marks the images with a logit that is not finite.
#[cube(launch_unchecked)]
pub(super) fn tally(
    logits: &Tensor<u32>,
    table: &[u32],
    histogram: &mut [Atomic<u32>],
    headers: &mut [Atomic<u32>],
    cut: f32,
    #[comptime] levels: usize,
) {
    let (anchors, channels) = (logits.shape(1), logits.shape(2));
    let total = logits.shape(0) * anchors * channels;
    for i in 0..VALUES {
        let at = first_value() + i * CUBE_DIM as usize;
        if at < total {
            let (row, channel) = (at / channels, at % channels);
            let (image, anchor) = (row / anchors, row % anchors);
            let bits = logits[image * logits.stride(0) + anchor * logits.stride(1) + channel * logits.stride(2)];
            let logit = f32::reinterpret(bits);
            if (bits & MAGNITUDE) >= INFINITY {
                headers[image * HEADER + 1].store(1u32);
            } else if logit > cut && table[levels + channel] == 1u32 {
                let group = image * levels + level_of(anchor, table, levels);
                histogram[group * BINS + bin_of(logit)].fetch_add(1u32);
            }
        }
    }
}

/// Marks the images with a delta that is not finite.
#[cube(launch_unchecked)]
pub(super) fn check_deltas(deltas: &Tensor<u32>, headers: &mut [Atomic<u32>]) {
    let anchors = deltas.shape(1);
    let total = deltas.shape(0) * anchors * 4;
    for i in 0..VALUES {
        let at = first_value() + i * CUBE_DIM as usize;
        if at < total {
            let (row, value) = (at / 4, at % 4);
            let (image, anchor) = (row / anchors, row % anchors);
            let bits = deltas[image * deltas.stride(0) + anchor * deltas.stride(1) + value * deltas.stride(2)];
            if (bits & MAGNITUDE) >= INFINITY {
                headers[image * HEADER + 1].store(1u32);
            }
        }
    }
}

/// For each image and level, the lowest bin whose pairs are candidates: one below the bin up to which the bins from the
/// highest one on have `wanted` pairs. Pairs of the bin below may have the same score as the last of these. No pair is
/// in a bin below `lowest`.
#[cube(launch_unchecked)]
pub(super) fn find_edges(histogram: &[u32], edges: &mut [u32], groups: usize, wanted: u32, lowest: u32) {
    if ABSOLUTE_POS >= groups {
        terminate!();
    }
    let mut bin = comptime!(BINS as u32).runtime();
    let mut found = 0u32;
    while bin > lowest && found < wanted {
        bin -= 1u32;
        found += histogram[ABSOLUTE_POS * BINS + bin as usize];
    }
    edges[ABSOLUTE_POS] = select(bin > 0u32, bin, 1u32) - 1u32;
}

/// Appends the candidates to the lists of their images, as far as these have room, and counts all of them.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "each buffer of a kernel is an argument")]
pub(super) fn collect(
    logits: &Tensor<u32>,
    deltas: &Tensor<u32>,
    table: &[u32],
    edges: &[u32],
    headers: &mut [Atomic<u32>],
    records: &mut [u32],
    cut: f32,
    capacity: usize,
    #[comptime] levels: usize,
) {
    let (anchors, channels) = (logits.shape(1), logits.shape(2));
    let total = logits.shape(0) * anchors * channels;
    for i in 0..VALUES {
        let at = first_value() + i * CUBE_DIM as usize;
        if at < total {
            let (row, channel) = (at / channels, at % channels);
            let (image, anchor) = (row / anchors, row % anchors);
            let bits = logits[image * logits.stride(0) + anchor * logits.stride(1) + channel * logits.stride(2)];
            let logit = f32::reinterpret(bits);
            let finite = (bits & MAGNITUDE) < INFINITY;
            if finite && logit > cut && table[levels + channel] == 1u32 {
                let group = image * levels + level_of(anchor, table, levels);
                if bin_of(logit) >= edges[group] as usize {
                    let slot = headers[image * HEADER].fetch_add(1u32) as usize;
                    if slot < capacity {
                        let to = (image * capacity + slot) * RECORD;
                        records[to] = (anchor * channels + channel) as u32;
                        records[to + 1] = bits;
                        let from = image * deltas.stride(0) + anchor * deltas.stride(1);
                        #[unroll]
                        for k in 0..4 {
                            records[to + 2 + k] = deltas[from + k * deltas.stride(2)];
                        }
                    }
                }
            }
        }
    }
}
