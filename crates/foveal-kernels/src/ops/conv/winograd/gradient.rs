//! The gradient of the weight: patches of the input and tiles of the output's gradient are transformed, multiplied in
//! 36 matrix products over all tiles, and transformed to the gradient.
use rayon::prelude::*;

use super::forward::{position_stride, tile_stride, transform_patches, transform_windows};
use super::tiling::Tile;
use super::transform::{Gradient, KernelGradient, PATCH, POSITIONS, TILE, both_ways};
use crate::cpu::matmul::isa::on_best_isa;
use crate::cpu::matmul::lanes::Lanes;
use crate::cpu::matmul::{Finish, Left, Order, Right, Size, Target, multiply, panel_width};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;
use crate::ops::conv::maps::Maps;

/// Number of taps of a 3x3 kernel.
const TAPS: usize = 9;
/// Number of tiles whose products are summed at a time, so that the transformed operands stay in the third-level cache.
const RUN: usize = 256;
/// Number of tiles that a task transforms.
const TILES: usize = 8;

/// Computes the gradient `[outputs, inputs, 3, 3]` of the weight of a 3x3 convolution with stride 1 and padding 1, from
/// its input `x [batch, pixels, inputs]` and its output's gradient `dy [batch, pixels, outputs]`.
pub(crate) fn weight_grad(x: &[f32], dy: &[f32], inputs: usize, outputs: usize, maps: &Maps) -> Vec<f32> {
    assert_eq!(x.len(), maps.batch * inputs * maps.pixels);
    assert_eq!(dy.len(), maps.batch * outputs * maps.pixels);
    let len = outputs * inputs * TAPS;
    let tiles = super::tiling::tiles(maps);
    if len == 0 || tiles.is_empty() {
        return vec![0.0; len];
    }
    let most = RUN.min(tiles.len());
    let (a_position, b_position) = (position_stride(most, outputs), position_stride(most, inputs));
    // The last panel of the right operand may reach beyond the last channel.
    let mut a = Scratch::of(POSITIONS * a_position);
    let mut b = Scratch::of(POSITIONS * b_position + panel_width());
    let (product, stride) = (outputs * tile_stride(inputs), tile_stride(inputs));
    let mut products = Scratch::of(POSITIONS * product);
    for (run, tiles) in tiles.chunks(RUN).enumerate() {
        let (a_to, b_to) = (SharedMut::new(&mut a), SharedMut::new(&mut b));
        tiles.par_chunks(TILES).enumerate().for_each(|(i, tiles)| {
            // SAFETY: these tiles' `[POSITIONS, tiles, tile stride]` lie within the buffers, and only this task accesses
            // them.
            unsafe {
                transform_patches(x, inputs, tiles, b_to.at(i * TILES * tile_stride(inputs)), b_position);
                transform_gradients(dy, outputs, tiles, a_to.at(i * TILES * tile_stride(outputs)), a_position);
            }
        });
        let c = SharedMut::new(&mut products);
        let (a, b) = (&a[..], &b[..]);
        (0..POSITIONS).into_par_iter().with_max_len(1).for_each(|position| {
            let size = Size { rows: outputs, columns: inputs, depth: tiles.len() };
            let a = Left { data: &a[position * a_position..], stride: tile_stride(outputs), order: Order::Columns };
            let data = &b[position * b_position..];
            let b = Right { data, row_stride: tile_stride(inputs), panel_stride: panel_width() };
            let finish = Finish { accumulate: run > 0, ..Finish::default() };
            // SAFETY: only this task accesses the products of its position, which the first run initialises.
            unsafe { multiply(size, a, b, Target::shared(c, position * product, stride), finish) };
        });
    }
    let mut dw = vec![0.0; len];
    let products = &products[..POSITIONS * product];
    dw.par_chunks_mut(inputs * TAPS).enumerate().for_each(|(output, dw)| {
        // SAFETY: row `output` of each position lies within the products.
        unsafe { transform_back(products[output * stride..].as_ptr(), product, dw) };
    });
    dw
}

on_best_isa! {
    /// Transforms the gradients of the tiles.
    ///
    /// # Safety
    /// `[POSITIONS, tiles, tile stride]` must be writable at `to`, positions `position_stride` apart.
    unsafe fn transform_gradients(
        dy: &[f32], channels: usize, tiles: &[Tile], to: *mut f32, position_stride: usize,
    ) = gradients_on
}

#[inline(always)]
unsafe fn gradients_on<L: Lanes, const V: usize, const R: usize>(
    dy: &[f32],
    channels: usize,
    tiles: &[Tile],
    to: *mut f32,
    position_stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { transform_windows::<L, Gradient, TILE>(dy, channels, tiles, to, position_stride) };
}

on_best_isa! {
    /// Transforms the products of one output channel to its gradient `dw [inputs, 3, 3]`.
    ///
    /// # Safety
    /// `[POSITIONS, inputs]`, rounded up to whole vectors, must be readable at `from`, positions `position_stride` apart.
    unsafe fn transform_back(from: *const f32, position_stride: usize, dw: &mut [f32]) = back_on
}

#[inline(always)]
unsafe fn back_on<L: Lanes, const V: usize, const R: usize>(from: *const f32, position_stride: usize, dw: &mut [f32]) {
    let mut taps = [[0f32; 16]; TAPS];
    for (i, dw) in dw.chunks_mut(L::N * TAPS).enumerate() {
        // SAFETY: the caller's promise; no vector has more than 16 lanes.
        unsafe {
            let mut square = [[L::splat(0.0); PATCH]; PATCH];
            for (r, row) in square.iter_mut().enumerate() {
                for (c, value) in row.iter_mut().enumerate() {
                    *value = L::load(from.add((r * PATCH + c) * position_stride + i * L::N));
                }
            }
            let square = both_ways::<L, KernelGradient, PATCH, 3>(square);
            for (taps, value) in taps.iter_mut().zip(square.as_flattened()) {
                value.store(taps.as_mut_ptr());
            }
        }
        for (lane, dw) in dw.chunks_exact_mut(TAPS).enumerate() {
            for (dw, taps) in dw.iter_mut().zip(&taps) {
                *dw = taps[lane];
            }
        }
    }
}
