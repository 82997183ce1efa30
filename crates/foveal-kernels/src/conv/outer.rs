//! The weight's gradient as a matrix product over pixels: the output's gradient times the unfolded input.
use rayon::prelude::*;

use super::geometry::Geometry;
use super::unfold::unfold_row;
use crate::matmul::lanes::{Lanes, on_best_isa};
use crate::matmul::{COLUMNS, DEPTH, Panels, ROWS, Size, Target, multiply};
use crate::parallel::{GRAIN, SharedMut};
use crate::scratch::Scratch;

/// Tasks to aim for; fixed, so that results do not depend on the number of threads.
const TASKS: usize = 16;
/// Columns of the result that a task takes at most.
const BLOCK: usize = 256;

/// The gradient `[out_channels, depth]` of the weight, from the input and the output's gradient. A task owns a block of
/// columns and, where there are few of those, a run of the pixels; the runs' sums are added in order.
pub(super) fn weight_grad(x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let (plane, depth, rows) = (g.out_plane(), g.depth(), g.out_channels);
    assert_eq!(x.len(), g.batch * g.in_channels * g.in_plane());
    assert_eq!(dy.len(), g.batch * rows * plane);
    let len = rows * depth;
    if len == 0 || dy.is_empty() {
        return vec![0.0; len];
    }
    let left = Left::new(dy, g);
    let panels = depth.div_ceil(COLUMNS);
    let blocks = panels.div_ceil(BLOCK / COLUMNS).max(TASKS.min(panels));
    let pieces: Vec<Piece> = (0..g.batch)
        .flat_map(|image| (0..plane).step_by(DEPTH).map(move |first| (image, first)))
        .map(|(image, first)| Piece { image, first, pixels: (plane - first).min(DEPTH) })
        .collect();
    let runs = TASKS.div_ceil(blocks).min(pieces.len());
    let mut sums: Vec<f32> = Vec::with_capacity(runs * len);
    let to = SharedMut::new(sums.as_mut_ptr());
    (0..runs * blocks).into_par_iter().with_max_len(1).for_each(|task| {
        let (run, block) = (task / blocks, task % blocks);
        let [from, until] = [block, block + 1].map(|b| b * panels / blocks * COLUMNS);
        let columns = from..until.min(depth);
        let [first, last] = [run, run + 1].map(|r| r * pieces.len() / runs);
        // SAFETY: these columns of this run's sums are this task's own, and lie within the buffer.
        unsafe { add_up(&pieces[first..last], x, &left, columns, g, to.at(run * len)) };
    });
    // SAFETY: the tasks cover all columns of all runs, and each run has a piece that initialises them.
    unsafe { sums.set_len(runs * len) };
    let (total, rest) = sums.split_at_mut(len);
    if !rest.is_empty() {
        total.par_chunks_mut(GRAIN).enumerate().for_each(|(i, total)| {
            for part in rest.chunks_exact(len) {
                total.iter_mut().zip(&part[i * GRAIN..]).for_each(|(total, part)| *total += part);
            }
        });
    }
    sums.truncate(len);
    sums
}

/// Some pixels of an image.
#[derive(Clone, Copy)]
struct Piece {
    image: usize,
    first: usize,
    pixels: usize,
}

/// The output's gradient as a left operand, image by image.
struct Left {
    buffer: Scratch,
    plane: usize,
    panels: usize,
}

impl Left {
    fn new(dy: &[f32], g: &Geometry) -> Self {
        let (plane, panels) = (g.out_plane(), g.out_channels.div_ceil(ROWS));
        let stride = plane * ROWS;
        let mut buffer = Scratch::of(g.batch * panels * stride);
        let to = SharedMut::new(buffer.as_mut_ptr());
        (0..g.batch * panels).into_par_iter().with_min_len(GRAIN.div_ceil(stride)).for_each(|panel| {
            let (image, row) = (panel / panels, panel % panels * ROWS);
            let rows = (g.out_channels - row).min(ROWS);
            let from = &dy[(image * g.out_channels + row) * plane..][..rows * plane];
            // SAFETY: a panel is its task's own, and lies within the buffer.
            unsafe { turn_rows(from, plane, to.at(panel * stride)) };
        });
        Self { buffer, plane, panels }
    }

    fn from(&self, piece: &Piece) -> Panels {
        let stride = self.plane * ROWS;
        let at = piece.image * self.panels * stride + piece.first * ROWS;
        Panels { data: self.buffer[at..].as_ptr(), stride }
    }
}

/// # Safety
/// `to [out_channels, depth]` must be writable at `columns`, and nobody else may touch those meanwhile.
unsafe fn add_up(
    pieces: &[Piece],
    x: &[f32],
    left: &Left,
    columns: std::ops::Range<usize>,
    g: &Geometry,
    to: *mut f32,
) {
    let (depth, image_len) = (g.depth(), g.in_channels * g.in_plane());
    let panels = columns.len().div_ceil(COLUMNS);
    let longest = pieces.iter().map(|p| p.pixels).max().unwrap_or(0);
    let mut buffer = Scratch::of((panels + 1) * longest * COLUMNS);
    let (right, lines) = buffer.split_at_mut(panels * longest * COLUMNS);
    for (i, piece) in pieces.iter().enumerate() {
        let pixels = piece.pixels;
        let image = &x[piece.image * image_len..][..image_len];
        for panel in 0..panels {
            let lines = &mut lines[..COLUMNS * pixels];
            for (lane, line) in lines.chunks_exact_mut(pixels).enumerate() {
                let column = columns.start + panel * COLUMNS + lane;
                if column >= columns.end {
                    line.fill(0.0);
                } else if g.is_pointwise() {
                    line.copy_from_slice(&image[column * g.out_plane() + piece.first..][..pixels]);
                } else {
                    unfold_row(g, image, column, piece.first, line);
                }
            }
            // SAFETY: a panel of `pixels` rows lies within the buffer.
            unsafe { turn_columns(lines, pixels, right[panel * pixels * COLUMNS..].as_mut_ptr()) };
        }
        let size = Size { rows: g.out_channels, columns: columns.len(), depth: pixels };
        let right = Panels { data: right.as_ptr(), stride: pixels * COLUMNS };
        // SAFETY: the operands have whole panels, `pixels` deep; the caller's promise on the target.
        unsafe {
            let c = Target { data: to.add(columns.start), row_stride: depth, panel_stride: COLUMNS };
            multiply(size, left.from(piece), right, c, i > 0);
        }
    }
}

on_best_isa! {
    /// Turns at most [`ROWS`] lines of `len` into `[len, ROWS]`, zeros for lines that there are not.
    ///
    /// # Safety
    /// `to` must be writable over `len * ROWS` elements.
    unsafe fn turn_rows(lines: &[f32], len: usize, to: *mut f32) = turn_rows_on
}

#[inline(always)]
unsafe fn turn_rows_on<L: Lanes, const V: usize, const WIDE: usize>(lines: &[f32], len: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { turn::<L, ROWS>(lines, len, to) };
}

on_best_isa! {
    /// Turns [`COLUMNS`] lines of `len` into `[len, COLUMNS]`.
    ///
    /// # Safety
    /// `to` must be writable over `len * COLUMNS` elements.
    unsafe fn turn_columns(lines: &[f32], len: usize, to: *mut f32) = turn_columns_on
}

#[inline(always)]
unsafe fn turn_columns_on<L: Lanes, const V: usize, const WIDE: usize>(lines: &[f32], len: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { turn::<L, COLUMNS>(lines, len, to) };
}

/// Turns at most `WIDTH` lines of `len` into `[len, WIDTH]`, eight elements of eight lines at a time.
///
/// # Safety
/// `to` must be writable over `len * WIDTH` elements.
#[inline(always)]
unsafe fn turn<L: Lanes, const WIDTH: usize>(lines: &[f32], len: usize, to: *mut f32) {
    const STEP: usize = 8;
    let count = lines.len() / len;
    let zeros = [0f32; STEP];
    let mut square = [[0f32; STEP]; STEP];
    let whole = len / STEP * STEP;
    for first in (0..WIDTH).step_by(STEP) {
        let width = (WIDTH - first).min(STEP);
        for at in (0..whole).step_by(STEP) {
            let rows: [*const f32; STEP] = std::array::from_fn(|i| match first + i < count {
                true => lines[(first + i) * len + at..].as_ptr(),
                false => zeros.as_ptr(),
            });
            // SAFETY: eight elements can be read at each row; the caller's promise on `to`.
            unsafe {
                if width == STEP {
                    L::transpose::<STEP>(&rows, to.add(at * WIDTH + first), WIDTH);
                } else {
                    L::transpose::<STEP>(&rows, square.as_mut_ptr().cast(), STEP);
                    for (i, values) in square.iter().enumerate() {
                        std::ptr::copy_nonoverlapping(values.as_ptr(), to.add((at + i) * WIDTH + first), width);
                    }
                }
            }
        }
        for at in whole..len {
            for i in 0..width {
                let value = if first + i < count { lines[(first + i) * len + at] } else { 0.0 };
                // SAFETY: the caller's promise.
                unsafe { to.add(at * WIDTH + first + i).write(value) };
            }
        }
    }
}
