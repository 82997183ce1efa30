//! The forward pass: the transform of the input tiles, 36 matrix products, and the transform of the products.
use rayon::prelude::*;

use super::tiling::{Tile, window};
use super::transform::{Input, Map, Output, PATCH, POSITIONS, TILE, both_ways};
use super::weight::{Transformed, Weights};
use crate::cpu::matmul::isa::on_best_isa;
use crate::cpu::matmul::lanes::Lanes;
use crate::cpu::matmul::{Finish, Left, Order, Size, Target, block_rows, multiply};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;
use crate::ops::conv::epilogue::SliceEpilogue;
use crate::ops::conv::maps::Maps;

/// Maximum number of tiles per task, so that its transformed input and its products take a few megabytes.
const TILES: usize = 56;

/// Number of elements between the first elements of two tiles that have `channels` channels each, so that they map to
/// different sets of the caches, and so that whole vectors and panels can be read and written.
pub(super) fn tile_stride(channels: usize) -> usize {
    channels.next_multiple_of(16) + 16
}

/// Number of elements between the positions of `tiles` tiles: an odd number of cache lines.
pub(super) fn position_stride(tiles: usize, channels: usize) -> usize {
    (tiles * tile_stride(channels) / 16 | 1) * 16
}

/// Computes the 3x3 convolution with stride 1 and padding 1 of `x [batch, pixels, inputs]`; the result is
/// `[batch, pixels, outputs]`.
pub(crate) fn convolve(x: &[f32], weights: Weights, epilogue: &SliceEpilogue, maps: &Maps) -> Vec<f32> {
    let Weights { inputs, outputs, .. } = weights;
    assert_eq!(x.len(), maps.batch * inputs * maps.pixels);
    let len = maps.batch * outputs * maps.pixels;
    assert!(epilogue.fits(outputs, len));
    if inputs == 0 || len == 0 {
        return vec![0.0; len];
    }
    let transformed = Transformed::new(weights);
    let tiles = super::tiling::tiles(maps);
    let mut y: Vec<f32> = Vec::with_capacity(len);
    let to = SharedMut::uninit(&mut y.spare_capacity_mut()[..len]);
    // The result of a tile does not depend on its task, so the number of tasks may depend on the number of threads.
    let rows = block_rows();
    let blocks = tiles.len().div_ceil(rows);
    let tasks = blocks.div_ceil(TILES / rows).next_multiple_of(rayon::current_num_threads()).min(blocks);
    (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
        let [first, last] = [task, task + 1].map(|t| (t * blocks / tasks * rows).min(tiles.len()));
        let job = Job { x, inputs, outputs, tiles: &tiles[first..last], epilogue };
        job.run(&transformed, to);
    });
    // SAFETY: the tiles cover every value of every map, and each task writes all output channels of its tiles.
    unsafe { y.set_len(len) };
    y
}

/// A task: a range of tiles.
struct Job<'a> {
    x: &'a [f32],
    inputs: usize,
    outputs: usize,
    tiles: &'a [Tile],
    epilogue: &'a SliceEpilogue<'a>,
}

impl Job<'_> {
    fn run(&self, weights: &Transformed, y: SharedMut<'_>) {
        let Self { x, inputs, outputs, tiles, epilogue } = *self;
        let (in_tile, out_tile) = (tile_stride(inputs), tile_stride(outputs));
        let (in_position, out_position) = (position_stride(tiles.len(), inputs), position_stride(tiles.len(), outputs));
        let mut buffer = Scratch::of(POSITIONS * (in_position + out_position));
        let (patches, products) = buffer.split_at_mut(POSITIONS * in_position);
        // SAFETY: the tiles' `[POSITIONS, tiles, tile stride]` lie within the buffer.
        unsafe { transform_patches(x, inputs, tiles, patches.as_mut_ptr(), in_position) };
        for position in 0..POSITIONS {
            let size = Size { rows: tiles.len(), columns: outputs, depth: inputs };
            let left = Left { data: &patches[position * in_position..], stride: in_tile, order: Order::Rows };
            let c = Target::new(&mut products[position * out_position..], out_tile);
            // SAFETY: only this task accesses the products, which have room for all tiles.
            unsafe { multiply(size, left, weights.right(position), c, Finish::default()) };
        }
        // SAFETY: the products of all positions were computed, and no other task accesses these tiles.
        unsafe { transform_products(products.as_ptr(), out_position, outputs, tiles, epilogue, y) };
    }
}

on_best_isa! {
    /// Transforms the patches of the tiles.
    ///
    /// # Safety
    /// `[POSITIONS, tiles, tile stride]` must be writable at `to`, positions `position_stride` apart.
    pub(super) unsafe fn transform_patches(
        x: &[f32], channels: usize, tiles: &[Tile], to: *mut f32, position_stride: usize,
    ) = patches_on
}

#[inline(always)]
unsafe fn patches_on<L: Lanes, const V: usize, const R: usize>(
    x: &[f32],
    channels: usize,
    tiles: &[Tile],
    to: *mut f32,
    position_stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { transform_windows::<L, Input, PATCH>(x, channels, tiles, to, position_stride) };
}

/// Transforms the `SIDE x SIDE` windows of the tiles of a tensor `[pixels, channels]`. Up to a vector's lanes behind the
/// last channel are written, too.
///
/// # Safety
/// `[POSITIONS, tiles, tile stride]` must be writable at `to`, positions `position_stride` apart.
#[inline(always)]
pub(super) unsafe fn transform_windows<L: Lanes, M: Map<SIDE, PATCH>, const SIDE: usize>(
    x: &[f32],
    channels: usize,
    tiles: &[Tile],
    to: *mut f32,
    position_stride: usize,
) {
    let zeros = vec![0f32; channels];
    for (t, tile) in tiles.iter().enumerate() {
        let rows = window::<SIDE>(x, channels, tile, &zeros);
        for channel in (0..channels).step_by(L::N) {
            let count = channels - channel;
            // SAFETY: `channels` elements can be read at each pixel; the caller's promise on `to`.
            unsafe {
                let mut square = [[L::splat(0.0); SIDE]; SIDE];
                for (square, row) in square.iter_mut().zip(&rows) {
                    for (value, pixel) in square.iter_mut().zip(row) {
                        let from = pixel.add(channel);
                        *value = if count >= L::N { L::load(from) } else { L::load_part(from, count) };
                    }
                }
                let square = both_ways::<L, M, SIDE, PATCH>(square);
                let to = to.add(t * tile_stride(channels) + channel);
                for (position, value) in square.as_flattened().iter().enumerate() {
                    value.store(to.add(position * position_stride));
                }
            }
        }
    }
}

on_best_isa! {
    /// Transforms the products of the tiles to the output `[pixels, outputs]` and writes it, with the epilogue applied.
    ///
    /// # Safety
    /// `[POSITIONS, tiles, tile stride]` must be readable at `from`, positions `position_stride` apart. `y` must be
    /// writable at the tiles, and no other thread may access them during the call.
    unsafe fn transform_products(
        from: *const f32, position_stride: usize, outputs: usize, tiles: &[Tile], epilogue: &SliceEpilogue<'_>,
        y: SharedMut<'_>,
    ) = products_on
}

#[inline(always)]
unsafe fn products_on<L: Lanes, const V: usize, const R: usize>(
    from: *const f32,
    position_stride: usize,
    outputs: usize,
    tiles: &[Tile],
    epilogue: &SliceEpilogue<'_>,
    y: SharedMut<'_>,
) {
    let finish = epilogue.from(0, 0);
    for (t, tile) in tiles.iter().enumerate() {
        let pixels: [[Option<usize>; TILE]; TILE] =
            std::array::from_fn(|r| std::array::from_fn(|c| tile.pixel::<TILE>(r, c)));
        for channel in (0..outputs).step_by(L::N) {
            let count = outputs - channel;
            // SAFETY: the caller's promise on `from` and `y`; scale and shift have further elements for whole vectors.
            unsafe {
                let mut square = [[L::splat(0.0); PATCH]; PATCH];
                let from = from.add(t * tile_stride(outputs) + channel);
                for (r, row) in square.iter_mut().enumerate() {
                    for (c, value) in row.iter_mut().enumerate() {
                        *value = L::load(from.add((r * PATCH + c) * position_stride));
                    }
                }
                let square = both_ways::<L, Output, PATCH, TILE>(square);
                let of = |values: Option<&[f32]>, or: f32| match values {
                    Some(values) => L::load(values.as_ptr().add(channel)),
                    None => L::splat(or),
                };
                let (scale, shift) = (of(finish.scale, 1.0), of(finish.shift, 0.0));
                for (value, pixel) in square.as_flattened().iter().zip(pixels.as_flattened()) {
                    let Some(pixel) = pixel else { continue };
                    let at = pixel * outputs + channel;
                    let mut value = value.mul_add(scale, shift);
                    if let Some(residual) = finish.residual {
                        let from = residual.as_ptr().add(at);
                        value = value.add(if count >= L::N { L::load(from) } else { L::load_part(from, count) });
                    }
                    if finish.relu {
                        value = value.relu();
                    }
                    if count >= L::N {
                        value.store(y.at(at));
                    } else {
                        value.store_part(y.at(at), count);
                    }
                }
            }
        }
    }
}
