//! The selection of the hardest background anchors on a GPU, by the rule of [`super::super::hardest::keep_hardest`].
//!
//! One workgroup selects the anchors of an image. It finds the cost of the last anchor that is kept bit by bit: 32 times
//! it counts the anchors with at least a given cost. Of the anchors with exactly that cost, it keeps the first.
use cubecl::prelude::*;

use super::units::{UNITS, sum_of_units};
use crate::ops::class_loss::{BACKGROUND, IGNORE};

/// The sign of an `f32`.
const SIGN: u32 = 0x8000_0000;

/// A number whose order is that of `f32::total_cmp` of the costs.
#[cube]
fn rank(cost: f32) -> u32 {
    let bits = u32::reinterpret(cost);
    select(bits >= SIGN, !bits, bits | SIGN)
}

/// The number of background anchors of an image whose rank is at least `least`, for every unit.
#[cube]
fn count_from(costs: &Tensor<f32>, ids: &Tensor<i32>, image: usize, least: u32, shared: &mut Shared<[u32]>) -> u32 {
    let anchors = costs.shape(1);
    let mut count = 0u32;
    let mut anchor = UNIT_POS as usize;
    while anchor < anchors {
        let cost = costs[image * costs.stride(0) + anchor * costs.stride(1)];
        if ids[(image * anchors + anchor) * ids.stride(0)] == BACKGROUND && rank(cost) >= least {
            count += 1u32;
        }
        anchor += UNITS;
    }
    sum_of_units::<u32>(count, shared)
}

/// Writes to `kept`, `[images * anchors]`, the classes `ids` of the anchors, in which the background anchors that are
/// not among the `keep` hardest of their image are ignored. `costs` is `[images, anchors]`, `keep` is `[images]`.
#[cube(launch_unchecked)]
pub(super) fn hardest(costs: &Tensor<f32>, ids: &Tensor<i32>, keep: &Tensor<i32>, kept: &mut [i32], images: usize) {
    let image = CUBE_POS;
    let anchors = costs.shape(1);
    let mut shared = Shared::<[u32]>::new_slice(UNITS);
    if image < images {
        let keep = u32::cast_from(keep[image * keep.stride(0)]);
        // The highest rank that at least `keep` anchors reach; 0 if there are not that many.
        let mut last = 0u32;
        let mut bit = SIGN.runtime();
        while bit > 0u32 {
            let count = count_from(costs, ids, image, last | bit, &mut shared);
            if count >= keep {
                last |= bit;
            }
            bit >>= 1u32;
        }
        let mut above = 0u32;
        if last < u32::MAX {
            above = count_from(costs, ids, image, last + 1u32, &mut shared);
        }
        // The anchors of exactly that rank are kept in their order. Each unit goes through consecutive anchors.
        let of_unit = anchors.div_ceil(UNITS);
        let unit = UNIT_POS as usize;
        let mut ties = 0u32;
        for i in 0..of_unit {
            let anchor = unit * of_unit + i;
            if anchor < anchors {
                let cost = costs[image * costs.stride(0) + anchor * costs.stride(1)];
                if ids[(image * anchors + anchor) * ids.stride(0)] == BACKGROUND && rank(cost) == last {
                    ties += 1u32;
                }
            }
        }
        shared[unit] = ties;
        sync_cube();
        let mut before = above;
        for other in 0..unit {
            before += shared[other];
        }
        for i in 0..of_unit {
            let anchor = unit * of_unit + i;
            if anchor < anchors {
                let at = image * anchors + anchor;
                let cost = costs[image * costs.stride(0) + anchor * costs.stride(1)];
                let id = ids[at * ids.stride(0)];
                let mut out = id;
                if id == BACKGROUND {
                    let own = rank(cost);
                    let mut stays = own > last;
                    if own == last {
                        stays = before < keep;
                        before += 1u32;
                    }
                    out = select(stays, BACKGROUND, IGNORE);
                }
                kept[at] = out;
            }
        }
    }
}
