//! The forward pass: the transform of the input tiles, 36 matrix products, and the transform of the products.
use std::ops::Range;

use rayon::prelude::*;

use super::part;
use super::tiling::{PatchWindows, Spare, Tile};
use super::transform::{Input, Output, PATCH, POSITIONS, TILE, both_ways};
use super::weight::{Transformed, Weights};
use crate::cpu::matmul::isa::on_best_isa;
use crate::cpu::matmul::lanes::Lanes;
use crate::cpu::matmul::{COLUMNS, DEPTH, Finish, Panels, ROWS, Size, Target, multiply};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;
use crate::ops::conv::maps::Maps;
use crate::ops::elementwise::relu;

/// Maximum number of panels of tiles per task, so that its transformed input and its products take a few megabytes.
const PANELS: usize = 6;

/// Number of channels ahead of the current one whose values are fetched into the cache.
const AHEAD: usize = 2;
/// Number of tiles whose rows have about the size of a cache line together.
const NEIGHBOURS: usize = 4;

/// Computes the 3x3 convolution with stride 1 and padding 1 of `x [batch, inputs, pixels]`; the result is
/// `[batch, outputs, pixels]`.
pub(crate) fn convolve(x: &[f32], weights: &Transformed, epilogue: Finish, maps: &Maps) -> Vec<f32> {
    let Transformed { inputs, outputs, .. } = *weights;
    computed(x, [inputs, outputs], epilogue, maps, |layer, y| layer.run(weights, 0, y))
}

/// Computes the same as [`convolve`], and transforms the weights of some output channels at a time to save memory.
pub(crate) fn convolve_in_parts(x: &[f32], w: Weights, epilogue: Finish, maps: &Maps) -> Vec<f32> {
    computed(x, [w.inputs, w.outputs], epilogue, maps, |layer, y| {
        let part = part(w.outputs, w.inputs);
        for first in (0..w.outputs).step_by(part) {
            let values = &w.values[first * w.output_stride..];
            let own = Weights { values, outputs: part.min(w.outputs - first), ..w };
            layer.run(&Transformed::new(own, Scratch::of), first, y);
        }
    })
}

/// The result of a convolution, which `run` writes.
fn computed(
    x: &[f32],
    [inputs, outputs]: [usize; 2],
    epilogue: Finish,
    maps: &Maps,
    run: impl FnOnce(&Layer<'_>, SharedMut<'_>),
) -> Vec<f32> {
    assert_eq!(x.len(), maps.batch * inputs * maps.pixels);
    let len = maps.batch * outputs * maps.pixels;
    assert!(epilogue.residual.is_none_or(|r| r.len() == len));
    assert!(epilogue.scale.is_none_or(|s| s.len() == outputs) && epilogue.shift.is_none_or(|s| s.len() == outputs));
    if inputs == 0 || len == 0 {
        return vec![0.0; len];
    }
    let tiles = super::tiling::tiles(maps);
    let mut y: Vec<f32> = Vec::with_capacity(len);
    let to = SharedMut::uninit(&mut y.spare_capacity_mut()[..len]);
    run(&Layer { x, inputs, outputs, maps, tiles: &tiles, epilogue }, to);
    // SAFETY: the tiles cover every value of every map, and all output channels of all tiles were written.
    unsafe { y.set_len(len) };
    y
}

/// A convolution without its weights.
struct Layer<'a> {
    x: &'a [f32],
    inputs: usize,
    outputs: usize,
    maps: &'a Maps,
    tiles: &'a [Tile],
    epilogue: Finish<'a>,
}

impl Layer<'_> {
    /// Computes the output channels from `first` on that `weights` has.
    fn run(&self, weights: &Transformed, first: usize, y: SharedMut<'_>) {
        let Self { x, inputs, outputs, maps, tiles, epilogue } = *self;
        let own = first..first + weights.outputs;
        // The result of a tile does not depend on its task, so the number of tasks may depend on the number of threads.
        let panels = tiles.len().div_ceil(COLUMNS);
        let threads = rayon::current_num_threads();
        let tasks = panels.div_ceil(PANELS).next_multiple_of(threads).min(panels);
        (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
            let [first, last] = [task, task + 1].map(|t| (t * panels / tasks * COLUMNS).min(tiles.len()));
            let tiles = &tiles[first..last];
            Job { x, inputs, outputs, own: own.clone(), maps, tiles, epilogue }.run(weights, y);
        });
    }
}

/// A task: a range of tiles.
struct Job<'a> {
    x: &'a [f32],
    inputs: usize,
    /// Number of output channels of the convolution.
    outputs: usize,
    /// The output channels that are computed.
    own: Range<usize>,
    maps: &'a Maps,
    tiles: &'a [Tile],
    epilogue: Finish<'a>,
}

impl Job<'_> {
    fn run(&self, weights: &Transformed, y: SharedMut<'_>) {
        let panels = self.tiles.len().div_ceil(COLUMNS);
        let rows = self.own.len().next_multiple_of(ROWS);
        let (chunk, block) = blocks(self.inputs, rows, panels);
        // One additional line, so that the positions do not all map to the same sets of the caches.
        let (in_panel, out_panel) = (chunk * COLUMNS, block * COLUMNS);
        let (in_position, out_position) = (panels * in_panel + COLUMNS, panels * out_panel + COLUMNS);
        let mut buffer = Scratch::of(POSITIONS * (in_position + out_position));
        let (inputs, products) = buffer.split_at_mut(POSITIONS * in_position);
        let products = &mut products[..POSITIONS * out_position];
        for first in (0..self.inputs).step_by(chunk) {
            let channels = first..(first + chunk).min(self.inputs);
            for (panel, tiles) in self.tiles.chunks(COLUMNS).enumerate() {
                let windows = PatchWindows::new(tiles, self.inputs, self.maps.pixels);
                let to = inputs[panel * in_panel..].as_mut_ptr();
                // SAFETY: this panel's `[POSITIONS, channels, COLUMNS]` lies within the buffer.
                unsafe { transform_input(self.x, channels.clone(), self.maps.pixels, &windows, to, in_position) };
            }
            for row in (0..rows).step_by(block) {
                let size = Size { rows: (rows - row).min(block), columns: panels * COLUMNS, depth: channels.len() };
                for position in 0..POSITIONS {
                    let a = weights.panels(position, row, first);
                    let b = Panels { data: &inputs[position * in_position..], stride: in_panel };
                    let c = Target::new(&mut products[position * out_position..], COLUMNS, out_panel);
                    // SAFETY: the operands have whole panels of the depth; only this task accesses the products.
                    unsafe { multiply(size, a, b, c, first > 0) };
                }
                if channels.end < self.inputs {
                    continue;
                }
                let outputs = self.own.start + row..(self.own.start + row + block).min(self.own.end);
                for (panel, tiles) in self.tiles.chunks(COLUMNS).enumerate() {
                    let from = products[panel * out_panel..].as_ptr();
                    // SAFETY: this panel's `[POSITIONS, outputs, COLUMNS]` lies within the products, and no other task
                    // accesses these tiles.
                    unsafe { transform_output(self, tiles, outputs.clone(), from, out_position, y) };
                }
            }
        }
    }
}

/// Number of elements of the products of a block, which are transformed while they are in the second-level cache.
const BLOCK: usize = 160 * 1024;

/// The number of input channels and of products' rows that a task computes at a time. Each block of rows reads
/// the whole transformed input, which pays up to [`DEPTH`] input channels. With more, all rows are computed for half as
/// many input channels at a time, so that the transformed input stays in the cache.
fn blocks(inputs: usize, rows: usize, panels: usize) -> (usize, usize) {
    if inputs > DEPTH {
        return (DEPTH / 2, rows);
    }
    let block = BLOCK / (POSITIONS * panels * COLUMNS);
    (inputs, (block / (2 * ROWS)).max(1) * 2 * ROWS)
}

on_best_isa! {
    /// Transforms the input channels `channels` of [`COLUMNS`] tiles.
    ///
    /// # Safety
    /// `[POSITIONS, channels, COLUMNS]` must be writable at `to`, positions `position_stride` apart.
    unsafe fn transform_input(
        x: &[f32], channels: Range<usize>, pixels: usize, windows: &PatchWindows, to: *mut f32, position_stride: usize,
    ) = transform_input_on
}

#[inline(always)]
unsafe fn transform_input_on<L: Lanes, const V: usize, const WIDE: usize>(
    x: &[f32],
    channels: Range<usize>,
    pixels: usize,
    windows: &PatchWindows,
    to: *mut f32,
    position_stride: usize,
) {
    let mut spare: Spare<PATCH> = [[[0.0; 8]; COLUMNS]; PATCH];
    let mut values = [[[0f32; COLUMNS]; PATCH]; PATCH];
    for (i, channel) in channels.enumerate() {
        let rows = windows.rows(x, channel * pixels, &mut spare);
        for lane in (0..COLUMNS).step_by(NEIGHBOURS) {
            rows.iter().for_each(|row| L::prefetch(row[lane].wrapping_add(AHEAD * pixels)));
        }
        for position in 0..POSITIONS {
            L::prefetch(to.wrapping_add(position * position_stride + (i + AHEAD) * COLUMNS));
        }
        // SAFETY: eight elements can be read at each row; the caller's promise on `to`.
        unsafe {
            for (rows, values) in rows.iter().zip(&mut values) {
                let (low, high) = rows.split_at(8);
                let to = values.as_mut_ptr().cast::<f32>();
                L::transpose::<PATCH>(low.try_into().expect("eight rows"), to, COLUMNS);
                L::transpose::<PATCH>(high.try_into().expect("eight rows"), to.add(8), COLUMNS);
            }
            for v in 0..V {
                let mut square = [[L::splat(0.0); PATCH]; PATCH];
                for (square, values) in square.iter_mut().zip(&values) {
                    for (square, value) in square.iter_mut().zip(values) {
                        *square = L::load(value.as_ptr().add(v * L::N));
                    }
                }
                if let Some(masks) = windows.masks() {
                    for (c, mask) in masks.iter().enumerate() {
                        let mask = L::load(mask.as_ptr().add(v * L::N));
                        for row in &mut square {
                            row[c] = row[c].and(mask);
                        }
                    }
                }
                let square = both_ways::<L, Input, PATCH, PATCH>(square);
                for (position, value) in square.as_flattened().iter().enumerate() {
                    value.store(to.add(position * position_stride + i * COLUMNS + v * L::N));
                }
            }
        }
    }
}

on_best_isa! {
    /// Transforms the products of at most [`COLUMNS`] tiles to the output channels `channels` and writes them, with the
    /// epilogue applied.
    ///
    /// # Safety
    /// `[POSITIONS, channels, COLUMNS]` must be readable at `from`, positions `position_stride` apart. `y` must be
    /// writable at the tiles of these channels, and no other thread may access them during the call.
    unsafe fn transform_output(
        job: &Job<'_>, tiles: &[Tile], channels: Range<usize>, from: *const f32, position_stride: usize, y: SharedMut<'_>,
    ) = transform_output_on
}

#[inline(always)]
unsafe fn transform_output_on<L: Lanes, const V: usize, const WIDE: usize>(
    job: &Job<'_>,
    tiles: &[Tile],
    channels: Range<usize>,
    from: *const f32,
    position_stride: usize,
    y: SharedMut<'_>,
) {
    let (outputs, pixels, epilogue) = (job.outputs, job.maps.pixels, job.epilogue);
    let residual = epilogue.residual;
    let mut aside = [[[0f32; TILE]; COLUMNS]; TILE];
    let whole = |tile: &Tile| tile.rows() == TILE && tile.columns() == TILE;
    // Incomplete tiles, and all tiles if there is a residual, are first written to the buffer `aside`.
    let is_direct: [bool; COLUMNS] = std::array::from_fn(|i| residual.is_none() && tiles.get(i).is_some_and(whole));
    let starts: [usize; COLUMNS] = std::array::from_fn(|i| tiles.get(i).map_or(0, |t| t.start(outputs, pixels)));
    let widths: [usize; COLUMNS] = std::array::from_fn(|i| tiles.get(i).map_or(0, Tile::width));
    let all_direct = is_direct.iter().all(|d| *d);
    for (i, channel) in channels.enumerate() {
        // SAFETY: the products of this channel are readable; the rows are those of this task's tiles, or of `aside`;
        // each start lies within the result.
        unsafe {
            for lane in (0..COLUMNS).step_by(NEIGHBOURS) {
                for r in 0..TILE {
                    L::prefetch(y.at(starts[lane]).wrapping_add((channel + AHEAD) * pixels + r * widths[lane]));
                }
            }
            let (scale, shift) = (L::splat(epilogue.scale_of(channel)), L::splat(epilogue.shift_of(channel)));
            for v in 0..V {
                let mut square = [[L::splat(0.0); PATCH]; PATCH];
                for (r, row) in square.iter_mut().enumerate() {
                    for (c, value) in row.iter_mut().enumerate() {
                        let position = (r * PATCH + c) * position_stride;
                        *value = L::load(from.add(position + i * COLUMNS + v * L::N));
                    }
                }
                let square = both_ways::<L, Output, PATCH, TILE>(square);
                for (r, mut row) in square.into_iter().enumerate() {
                    for value in &mut row {
                        *value = value.mul_add(scale, shift);
                        if epilogue.relu && residual.is_none() {
                            *value = value.relu();
                        }
                    }
                    let mut rows = [std::ptr::null_mut(); COLUMNS];
                    for lane in v * L::N..(v + 1) * L::N {
                        rows[lane] = if is_direct[lane] {
                            y.at(starts[lane] + channel * pixels + r * widths[lane])
                        } else {
                            aside[r][lane].as_mut_ptr()
                        };
                    }
                    L::scatter(row, &rows[v * L::N..(v + 1) * L::N]);
                }
            }
            if all_direct {
                continue;
            }
            for (lane, tile) in tiles.iter().enumerate().filter(|(lane, _)| !is_direct[*lane]) {
                for (r, values) in aside.iter().enumerate().take(tile.rows()) {
                    let at = starts[lane] + channel * pixels + r * widths[lane];
                    for (c, value) in values[lane].iter().enumerate().take(tile.columns()) {
                        let value = match residual {
                            Some(residual) => {
                                let sum = value + residual[at + c];
                                if epilogue.relu { relu(sum) } else { sum }
                            }
                            None => *value,
                        };
                        y.at(at + c).write(value);
                    }
                }
            }
        }
    }
}
