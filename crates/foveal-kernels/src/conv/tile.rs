//! Cutting a convolution into tiles, unfolding a tile's input, and the matrix product on it.
//!
//! Tiles are whole rows of the output. A tile's input is unfolded a block of channels at a time, so that the unfolded
//! block stays in the second-level cache, and each block's product is accumulated.
use gemm::Parallelism;

use super::geometry::Geometry;

/// Output pixels of a large tile. With [`BLOCK_DEPTH`] rows an unfolded block takes half a megabyte.
const TILE_PIXELS: usize = 512;
/// Output pixels of the smallest tile worth its overhead.
const MIN_TILE_PIXELS: usize = 64;
/// Tiles to aim for on small maps, so that all threads find work; fixed, so that results do not depend on them.
const TILES: usize = 16;
/// Rows (channels times taps) of an unfolded block: near the depth at which `gemm` itself cuts.
const BLOCK_DEPTH: usize = 256;

/// Rows `first..last` of one image's output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub(super) image: usize,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// All tiles of the output, in order.
pub(super) fn tiles(g: &Geometry) -> Vec<Tile> {
    let (height, width) = (g.out_height(), g.out_width());
    let pixels = (g.batch * height * width / TILES).clamp(MIN_TILE_PIXELS, TILE_PIXELS);
    let rows = (pixels / width).clamp(1, height);
    (0..g.batch)
        .flat_map(|image| {
            (0..height).step_by(rows).map(move |first| Tile { image, first, last: (first + rows).min(height) })
        })
        .collect()
}

/// How many input channels are unfolded at a time.
pub(super) fn block_channels(g: &Geometry) -> usize {
    (BLOCK_DEPTH / g.taps()).clamp(1, g.in_channels.max(1))
}

/// The output columns at which tap column `kw` reads inside the input: `lo..hi`.
pub(super) fn inside(g: &Geometry, kw: usize) -> (usize, usize) {
    let width = g.out_width();
    let lo = g.padding.saturating_sub(kw).div_ceil(g.stride).min(width);
    let hi = (g.width + g.padding).saturating_sub(kw).div_ceil(g.stride).min(width).max(lo);
    (lo, hi)
}

/// The input row that output row `row` reads at tap row `kh`, unless it is padding.
pub(super) fn input_row(g: &Geometry, row: usize, kh: usize) -> Option<usize> {
    (row * g.stride + kh).checked_sub(g.padding).filter(|&r| r < g.height)
}

/// Unfolds channels `channels` of one image (`[in_channels, height, width]`) for a tile's rows into
/// `columns [channels * taps, pixels]`.
pub(super) fn unfold(
    g: &Geometry,
    image: &[f32],
    channels: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    columns: &mut [f32],
) {
    let width = g.out_width();
    let pixels = rows.len() * width;
    let mut out = columns.chunks_exact_mut(pixels);
    for channel in channels {
        let plane = &image[channel * g.in_plane()..][..g.in_plane()];
        for kh in 0..g.kernel {
            for kw in 0..g.kernel {
                let column = out.next().expect("one piece for each channel and tap");
                let (lo, hi) = inside(g, kw);
                for (row, to) in rows.clone().zip(column.chunks_exact_mut(width)) {
                    let Some(from) = input_row(g, row, kh).filter(|_| hi > lo) else {
                        to.fill(0.0);
                        continue;
                    };
                    let from = &plane[from * g.width + lo * g.stride + kw - g.padding..(from + 1) * g.width];
                    to[..lo].fill(0.0);
                    to[hi..].fill(0.0);
                    gather(&mut to[lo..hi], from, g.stride);
                }
            }
        }
    }
}

/// `to[i] = from[i * stride]`.
fn gather(to: &mut [f32], from: &[f32], stride: usize) {
    match stride {
        1 => to.copy_from_slice(&from[..to.len()]),
        2 => {
            // Whole pairs vectorise; the last element may stand alone.
            let (last, pairs) = to.split_last_mut().expect("at least one element");
            *last = from[2 * pairs.len()];
            for (to, from) in pairs.iter_mut().zip(from.chunks_exact(2)) {
                *to = from[0];
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(stride)) {
                *to = *from;
            }
        }
    }
}

/// A matrix that someone else owns.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub(super) data: *const f32,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

/// `c (+)= a * b` on one thread, `a [m, k]`, `b [k, n]`, `c [m, n]` with unit column stride.
///
/// # Safety
/// `a` and `b` must be readable and `c` writable (and initialised, if `accumulate`) over those sizes and strides, and
/// nobody else may touch `c` meanwhile.
pub(super) unsafe fn product(
    [m, n, k]: [usize; 3],
    a: Matrix,
    b: Matrix,
    c: *mut f32,
    c_row_stride: usize,
    accumulate: bool,
) {
    // SAFETY: the caller's promise; strides are in elements and fit `isize` as the buffers exist.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            1,
            c_row_stride as isize,
            accumulate,
            a.data,
            a.column_stride as isize,
            a.row_stride as isize,
            b.data,
            b.column_stride as isize,
            b.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
