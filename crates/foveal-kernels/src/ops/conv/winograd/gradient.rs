//! The gradient of the weight: patches of the input and tiles of the output's gradient are transformed, multiplied in
//! 36 matrix products over all tiles, and transformed to the gradient.
use rayon::prelude::*;

use super::part;
use super::tiling::{Spare, Tile, Window};
use super::transform::{Gradient, Input, KernelGradient, Map, PATCH, POSITIONS, TILE, both_ways};
use crate::cpu::matmul::isa::on_best_isa;
use crate::cpu::matmul::lanes::Lanes;
use crate::cpu::matmul::{COLUMNS, Panels, ROWS, Size, Target, multiply};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;
use crate::ops::conv::maps::Maps;

/// Number of taps of a 3x3 kernel.
const TAPS: usize = 9;
/// Approximate number of tiles whose products are summed at a time, so that the transformed operands stay in the
/// third-level cache.
const RUN: usize = 256;

/// Number of tiles ahead of the current one whose place in the buffer is fetched into the cache.
const PREFETCH: usize = 2;

/// Computes the gradient `[outputs, inputs, 3, 3]` of the weight of a 3x3 convolution with stride 1 and padding 1, from
/// its input `x [batch, inputs, pixels]` and its output's gradient `dy [batch, outputs, pixels]`. The gradient of an
/// output channel is multiplied by its `scale`.
pub(crate) fn weight_grad(
    x: &[f32],
    dy: &[f32],
    scale: Option<&[f32]>,
    [inputs, outputs]: [usize; 2],
    maps: &Maps,
) -> Vec<f32> {
    assert_eq!(x.len(), maps.batch * inputs * maps.pixels);
    assert_eq!(dy.len(), maps.batch * outputs * maps.pixels);
    let len = outputs * inputs * TAPS;
    let tiles = super::tiling::tiles(maps);
    if len == 0 || tiles.is_empty() {
        return vec![0.0; len];
    }
    let mut dw = vec![0.0; len];
    let part = part(outputs, inputs);
    for (i, dw) in dw.chunks_mut(part * inputs * TAPS).enumerate() {
        let own = Outputs { all: outputs, first: i * part, scale };
        part_grad(x, dy, inputs, own, &tiles, maps.pixels, dw);
    }
    dw
}

/// Some of the output channels of a gradient.
#[derive(Clone, Copy)]
struct Outputs<'a> {
    /// Number of all output channels.
    all: usize,
    /// The first of the channels.
    first: usize,
    /// Factor of each of all output channels.
    scale: Option<&'a [f32]>,
}

/// Computes the gradient `dw [outputs, inputs, 3, 3]` of some output channels' weights.
fn part_grad(x: &[f32], dy: &[f32], inputs: usize, own: Outputs<'_>, tiles: &[Tile], pixels: usize, dw: &mut [f32]) {
    let outputs = dw.len() / (inputs * TAPS);
    let (rows, columns) = (outputs.next_multiple_of(ROWS), inputs.next_multiple_of(COLUMNS));
    // Each run reads and writes all products, so that a short run costs nearly as much as a long one.
    let runs = ((tiles.len() + RUN / 2) / RUN).max(1);
    let depth = tiles.len().div_ceil(runs);
    let (a_position, b_position) = (rows * depth + COLUMNS, columns * depth + COLUMNS);
    let mut a = Scratch::of(POSITIONS * a_position);
    let mut b = Scratch::of(POSITIONS * b_position);
    let mut products = Scratch::of(POSITIONS * rows * columns);
    for (run, tiles) in tiles.chunks(depth).enumerate() {
        let depth = tiles.len();
        let (a_to, b_to) = (SharedMut::new(&mut a), SharedMut::new(&mut b));
        let (a_panels, b_panels) = (rows / ROWS, columns / COLUMNS);
        (0..a_panels + b_panels).into_par_iter().for_each(|panel| {
            // SAFETY: this panel's `[POSITIONS, depth, ROWS or COLUMNS]` lies within the buffer, and only this task
            // accesses it.
            unsafe {
                if panel < b_panels {
                    let to = b_to.at(panel * depth * COLUMNS);
                    let source = Source { values: x, channels: inputs, first: panel * COLUMNS, pixels };
                    transform_input(source, tiles, to, b_position);
                } else {
                    let panel = panel - b_panels;
                    let to = a_to.at(panel * depth * ROWS);
                    let first = own.first + panel * ROWS;
                    let source = Source { values: dy, channels: own.all, first, pixels };
                    transform_gradient(source, tiles, to, a_position);
                }
            }
        });
        let c = SharedMut::new(&mut products);
        let (a, b) = (&a[..], &b[..]);
        (0..POSITIONS).into_par_iter().with_max_len(1).for_each(|position| {
            let a = Panels { data: &a[position * a_position..], stride: depth * ROWS };
            let b = Panels { data: &b[position * b_position..], stride: depth * COLUMNS };
            // SAFETY: only this task accesses the products of its position; the operands have whole panels of depth
            // `depth`.
            unsafe {
                let c = Target::shared(c, position * rows * columns, columns, COLUMNS);
                multiply(Size { rows, columns, depth }, a, b, c, run > 0);
            }
        });
    }
    let products = &products[..POSITIONS * rows * columns];
    dw.par_chunks_mut(inputs * TAPS).enumerate().for_each(|(output, dw)| {
        let scale = own.scale.map_or(1.0, |scale| scale[own.first + output]);
        // SAFETY: row `output` of each position lies within the products.
        unsafe { transform_back(products[output * columns..].as_ptr(), rows * columns, scale, dw) };
    });
}

/// The channels from `first` on of a tensor `[batch, channels, pixels]`.
#[derive(Clone, Copy)]
struct Source<'a> {
    values: &'a [f32],
    channels: usize,
    first: usize,
    pixels: usize,
}

on_best_isa! {
    /// Transforms the patches of at most [`COLUMNS`] input channels.
    ///
    /// # Safety
    /// `[POSITIONS, tiles, COLUMNS]` must be writable at `to`, positions `position_stride` apart.
    unsafe fn transform_input(source: Source<'_>, tiles: &[Tile], to: *mut f32, position_stride: usize) = input_on
}

#[inline(always)]
unsafe fn input_on<L: Lanes, const V: usize, const WIDE: usize>(
    source: Source<'_>,
    tiles: &[Tile],
    to: *mut f32,
    position_stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { transform::<L, Input, PATCH, COLUMNS>(source, tiles, to, position_stride) };
}

on_best_isa! {
    /// Transforms the gradient tiles of at most [`ROWS`] output channels.
    ///
    /// # Safety
    /// `[POSITIONS, tiles, ROWS]` must be writable at `to`, positions `position_stride` apart.
    unsafe fn transform_gradient(source: Source<'_>, tiles: &[Tile], to: *mut f32, position_stride: usize) = gradient_on
}

#[inline(always)]
unsafe fn gradient_on<L: Lanes, const V: usize, const WIDE: usize>(
    source: Source<'_>,
    tiles: &[Tile],
    to: *mut f32,
    position_stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { transform::<L, Gradient, TILE, ROWS>(source, tiles, to, position_stride) };
}

/// Transforms the `SIDE x SIDE` windows of `WIDTH` channels. Channels beyond the last give zeros.
///
/// # Safety
/// `[POSITIONS, tiles, WIDTH]` must be writable at `to`, positions `position_stride` apart.
#[inline(always)]
unsafe fn transform<L: Lanes, M: Map<SIDE, PATCH>, const SIDE: usize, const WIDTH: usize>(
    source: Source<'_>,
    tiles: &[Tile],
    to: *mut f32,
    position_stride: usize,
) {
    let Source { values: x, channels, first, pixels } = source;
    let lanes = (channels - first).min(WIDTH);
    let mut spare: Spare<SIDE> = [[[0.0; 8]; COLUMNS]; SIDE];
    let mut values = [[[0f32; COLUMNS]; SIDE]; SIDE];
    let mut out = [[0f32; COLUMNS]; POSITIONS];
    for (t, tile) in tiles.iter().enumerate() {
        let window = Window::<SIDE>::new(Some(tile), channels, pixels);
        for position in 0..POSITIONS {
            L::prefetch(to.wrapping_add(position * position_stride + (t + PREFETCH) * WIDTH));
        }
        let rows = window.channels(x, first * pixels, pixels, lanes, &mut spare);
        // SAFETY: eight elements can be read at each row; the caller's promise on `to`.
        unsafe {
            for (rows, values) in rows.iter().zip(&mut values) {
                let (low, high) = rows.split_at(8);
                let to = values.as_mut_ptr().cast::<f32>();
                L::transpose::<SIDE>(low.try_into().expect("eight rows"), to, COLUMNS);
                if WIDTH > 8 {
                    L::transpose::<SIDE>(high.try_into().expect("eight rows"), to.add(8), COLUMNS);
                }
            }
            for v in 0..WIDTH.div_ceil(L::N) {
                let mut square = [[L::splat(0.0); SIDE]; SIDE];
                for (square, values) in square.iter_mut().zip(&values) {
                    for (c, (square, value)) in square.iter_mut().zip(values).enumerate() {
                        if window.has(c) {
                            *square = L::load(value.as_ptr().add(v * L::N));
                        }
                    }
                }
                let square = both_ways::<L, M, SIDE, PATCH>(square);
                for (position, value) in square.as_flattened().iter().enumerate() {
                    if WIDTH == COLUMNS {
                        value.store(to.add(position * position_stride + t * WIDTH + v * L::N));
                    } else {
                        value.store(out[position].as_mut_ptr().add(v * L::N));
                    }
                }
            }
            if WIDTH != COLUMNS {
                for (position, out) in out.iter().enumerate() {
                    let to = to.add(position * position_stride + t * WIDTH);
                    std::ptr::copy_nonoverlapping(out.as_ptr(), to, WIDTH);
                }
            }
        }
    }
}

on_best_isa! {
    /// Transforms the products of one output channel to its gradient `dw [inputs, 3, 3]`, and multiplies it by `scale`.
    ///
    /// # Safety
    /// `[POSITIONS, inputs rounded up to COLUMNS]` must be readable at `from`, positions `position_stride` apart.
    unsafe fn transform_back(from: *const f32, position_stride: usize, scale: f32, dw: &mut [f32]) = back_on
}

#[inline(always)]
unsafe fn back_on<L: Lanes, const V: usize, const WIDE: usize>(
    from: *const f32,
    position_stride: usize,
    scale: f32,
    dw: &mut [f32],
) {
    let mut taps = [[0f32; COLUMNS]; TAPS];
    for (i, dw) in dw.chunks_mut(COLUMNS * TAPS).enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            for v in 0..V {
                let mut square = [[L::splat(0.0); PATCH]; PATCH];
                for (r, row) in square.iter_mut().enumerate() {
                    for (c, value) in row.iter_mut().enumerate() {
                        let position = (r * PATCH + c) * position_stride;
                        *value = L::load(from.add(position + i * COLUMNS + v * L::N));
                    }
                }
                let square = both_ways::<L, KernelGradient, PATCH, 3>(square);
                for (taps, value) in taps.iter_mut().zip(square.as_flattened()) {
                    value.mul(L::splat(scale)).store(taps.as_mut_ptr().add(v * L::N));
                }
            }
        }
        for (lane, dw) in dw.chunks_exact_mut(TAPS).enumerate() {
            for (dw, taps) in dw.iter_mut().zip(&taps) {
                *dw = taps[lane];
            }
        }
    }
}
