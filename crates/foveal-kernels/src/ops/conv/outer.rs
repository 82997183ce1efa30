//! The gradient of the weight as a matrix product over pixels: the output's gradient times the unfolded input.
use std::ops::Range;

use rayon::prelude::*;

use super::geometry::Geometry;
use super::unfold::unfold_row;
use crate::cpu::matmul::isa::on_best_isa;
use crate::cpu::matmul::lanes::Lanes;
use crate::cpu::matmul::{COLUMNS, DEPTH, Finish, Panels, ROWS, Size, Target, multiply, multiply_finish};
use crate::cpu::parallel::{GRAIN, SharedMut};
use crate::cpu::scratch::Scratch;

/// Intended number of tasks. It is fixed, so that results do not depend on the number of threads.
const TASKS: usize = 16;
/// Maximum number of columns of the result per task.
const BLOCK: usize = 256;

/// Computes the gradient `[out_channels, depth]` of the weight from the input `x [batch, in_channels, height, width]`
/// and the output's gradient `dy [batch, out_channels, out_height, out_width]`. A task computes a block of one group's
/// columns; if there are few blocks, each is divided further into runs of pixels, whose sums are added in order. The
/// gradient of an output channel is multiplied by its `scale`.
pub(super) fn weight_grad(x: &[f32], dy: &[f32], scale: Option<&[f32]>, g: &Geometry) -> Vec<f32> {
    let (plane, depth, groups) = (g.out_plane(), g.depth(), g.groups);
    assert_eq!(x.len(), g.batch * g.in_channels * g.in_plane());
    assert_eq!(dy.len(), g.batch * g.out_channels * plane);
    assert!(scale.is_none_or(|s| s.len() == g.out_channels));
    let group_len = g.part_outputs() * depth;
    let len = groups * group_len;
    if len == 0 || dy.is_empty() {
        return vec![0.0; len];
    }
    let left = Left::new(dy, g);
    let panels = depth.div_ceil(COLUMNS);
    let blocks = panels.div_ceil(BLOCK / COLUMNS).max(TASKS.div_ceil(groups).min(panels));
    let pieces: Vec<Piece> = (0..g.batch)
        .flat_map(|image| (0..plane).step_by(DEPTH).map(move |first| (image, first)))
        .map(|(image, first)| Piece { image, first, pixels: (plane - first).min(DEPTH) })
        .collect();
    let runs = TASKS.div_ceil(groups * blocks).min(pieces.len());
    let mut sums: Vec<f32> = Vec::with_capacity(runs * len);
    let to = SharedMut::uninit(&mut sums.spare_capacity_mut()[..runs * len]);
    (0..runs * groups * blocks).into_par_iter().with_max_len(1).for_each(|task| {
        let (run, group, block) = (task / blocks / groups, task / blocks % groups, task % blocks);
        let [from, until] = [block, block + 1].map(|b| b * panels / blocks * COLUMNS);
        let columns = from..until.min(depth);
        let [first, last] = [run, run + 1].map(|r| r * pieces.len() / runs);
        // The sums of several runs are scaled when they have been added.
        let scale = scale.filter(|_| runs == 1);
        let job = Job { pieces: &pieces[first..last], group, columns, x, left: &left, scale, g };
        // SAFETY: only this task accesses these columns of this run's sums, which lie within the buffer.
        unsafe { job.add_up(to, run * len + group * group_len) };
    });
    // SAFETY: the tasks cover all columns of all groups of all runs, and each run has a piece that initialises them.
    unsafe { sums.set_len(runs * len) };
    let (total, rest) = sums.split_at_mut(len);
    if !rest.is_empty() {
        let rows = total.par_chunks_mut(depth).with_min_len(GRAIN.div_ceil(depth)).enumerate();
        rows.for_each(|(channel, total)| {
            for part in rest.chunks_exact(len) {
                total.iter_mut().zip(&part[channel * depth..]).for_each(|(total, part)| *total += part);
            }
            if let Some(scale) = scale {
                total.iter_mut().for_each(|total| *total *= scale[channel]);
            }
        });
    }
    sums.truncate(len);
    sums
}

/// A range of pixels of an image, for all its groups.
#[derive(Clone, Copy)]
struct Piece {
    image: usize,
    first: usize,
    pixels: usize,
}

/// The output's gradient, packed as a left operand for each part.
struct Left {
    buffer: Scratch,
    plane: usize,
    /// Number of panels of a part.
    panels: usize,
    groups: usize,
}

impl Left {
    fn new(dy: &[f32], g: &Geometry) -> Self {
        let (plane, outputs) = (g.out_plane(), g.part_outputs());
        let (panels, stride) = (outputs.div_ceil(ROWS), plane * ROWS);
        let mut buffer = Scratch::of(g.parts() * panels * stride);
        let to = SharedMut::new(&mut buffer);
        (0..g.parts() * panels).into_par_iter().with_min_len(GRAIN.div_ceil(stride)).for_each(|panel| {
            let (part, row) = (panel / panels, panel % panels * ROWS);
            let rows = (outputs - row).min(ROWS);
            let lines = Lines { values: &dy[(part * outputs + row) * plane..], count: rows, stride: plane };
            // SAFETY: only this task accesses the panel, which lies within the buffer.
            unsafe { turn_rows(lines, plane, to.at(panel * stride)) };
        });
        Self { buffer, plane, panels, groups: g.groups }
    }

    /// The left operand for one group and the pixels of a piece.
    fn from(&self, piece: &Piece, group: usize) -> Panels<'_> {
        let stride = self.plane * ROWS;
        let at = (piece.image * self.groups + group) * self.panels * stride + piece.first * ROWS;
        Panels { data: &self.buffer[at..], stride }
    }
}

/// A task: a range of columns of one group's gradient, summed over some pieces.
struct Job<'a> {
    pieces: &'a [Piece],
    group: usize,
    columns: Range<usize>,
    x: &'a [f32],
    left: &'a Left,
    /// Factor of each output channel, or `None` for 1.
    scale: Option<&'a [f32]>,
    g: &'a Geometry,
}

impl Job<'_> {
    /// Writes the sums over the pieces, multiplied by `scale`, to the task's columns of a matrix
    /// `[out_channels / groups, depth]` that begins at element `start` of `to`.
    ///
    /// # Safety
    /// The task's columns must be writable, and no other thread may access them during the call.
    unsafe fn add_up(&self, to: SharedMut<'_>, start: usize) {
        let Self { pieces, group, x, left, scale, g, .. } = *self;
        let scale = scale.map(|scale| &scale[group * g.part_outputs()..]);
        let columns = &self.columns;
        let (depth, part_len) = (g.depth(), g.part_inputs() * g.in_plane());
        let panels = columns.len().div_ceil(COLUMNS);
        let longest = pieces.iter().map(|p| p.pixels).max().unwrap_or(0);
        let mut buffer = Scratch::of((panels + 1) * longest * COLUMNS);
        let (right, lines) = buffer.split_at_mut(panels * longest * COLUMNS);
        for (i, piece) in pieces.iter().enumerate() {
            let pixels = piece.pixels;
            let part = &x[(piece.image * g.groups + group) * part_len..][..part_len];
            for panel in 0..panels {
                let to = right[panel * pixels * COLUMNS..].as_mut_ptr();
                let first = columns.start + panel * COLUMNS;
                if g.is_pointwise() {
                    let plane = g.out_plane();
                    let count = (columns.end - first).min(COLUMNS);
                    let lines = Lines { values: &part[first * plane + piece.first..], count, stride: plane };
                    // SAFETY: a panel of `pixels` rows lies within the buffer.
                    unsafe { turn_columns(lines, pixels, to) };
                    continue;
                }
                let lines = &mut lines[..COLUMNS * pixels];
                for (lane, line) in lines.chunks_exact_mut(pixels).enumerate() {
                    match first + lane {
                        column if column < columns.end => unfold_row(g, part, column, piece.first, line),
                        _ => line.fill(0.0),
                    }
                }
                let lines = Lines { values: lines, count: COLUMNS, stride: pixels };
                // SAFETY: a panel of `pixels` rows lies within the buffer.
                unsafe { turn_columns(lines, pixels, to) };
            }
            let size = Size { rows: g.part_outputs(), columns: columns.len(), depth: pixels };
            let right = Panels { data: right, stride: pixels * COLUMNS };
            // SAFETY: the operands have whole panels of depth `pixels`; the caller's promise on the target; there is a
            // factor for each row.
            unsafe {
                let c = Target::shared(to, start + columns.start, depth, COLUMNS);
                let a = left.from(piece, group);
                if scale.is_some() && i + 1 == pieces.len() {
                    multiply_finish(size, a, right, c, i > 0, Finish { scale, ..Finish::default() });
                } else {
                    multiply(size, a, right, c, i > 0);
                }
            }
        }
    }
}

/// Lines of a matrix in memory.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    /// The elements from the start of the first line on.
    pub(super) values: &'a [f32],
    /// Number of lines.
    pub(super) count: usize,
    /// Number of elements from the start of a line to the start of the next.
    pub(super) stride: usize,
}

on_best_isa! {
    /// Transposes at most [`ROWS`] lines of length `len` into `[len, ROWS]`, with zeros for missing lines.
    ///
    /// # Safety
    /// `to` must be writable over `len * ROWS` elements.
    pub(super) unsafe fn turn_rows(lines: Lines<'_>, len: usize, to: *mut f32) = turn_rows_on
}

#[inline(always)]
unsafe fn turn_rows_on<L: Lanes, const V: usize, const WIDE: usize>(lines: Lines<'_>, len: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { turn::<L, ROWS>(lines, len, to) };
}

on_best_isa! {
    /// Transposes at most [`COLUMNS`] lines of length `len` into `[len, COLUMNS]`, with zeros for missing lines.
    ///
    /// # Safety
    /// `to` must be writable over `len * COLUMNS` elements.
    unsafe fn turn_columns(lines: Lines<'_>, len: usize, to: *mut f32) = turn_columns_on
}

#[inline(always)]
unsafe fn turn_columns_on<L: Lanes, const V: usize, const WIDE: usize>(lines: Lines<'_>, len: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { turn::<L, COLUMNS>(lines, len, to) };
}

/// Transposes at most `WIDTH` lines of length `len` into `[len, WIDTH]`, eight elements of eight lines at a time.
///
/// # Safety
/// `to` must be writable over `len * WIDTH` elements.
#[inline(always)]
unsafe fn turn<L: Lanes, const WIDTH: usize>(lines: Lines<'_>, len: usize, to: *mut f32) {
    const STEP: usize = 8;
    let Lines { values, count, stride } = lines;
    assert!(count == 0 || (count - 1) * stride + len <= values.len());
    let zeros = [0f32; STEP];
    let mut square = [[0f32; STEP]; STEP];
    let whole = len / STEP * STEP;
    for first in (0..WIDTH).step_by(STEP) {
        let width = (WIDTH - first).min(STEP);
        for at in (0..whole).step_by(STEP) {
            let rows: [*const f32; STEP] = std::array::from_fn(|i| match first + i < count {
                true => values[(first + i) * stride + at..].as_ptr(),
                false => zeros.as_ptr(),
            });
            // SAFETY: eight elements can be read at each row; the caller's promise on `to`.
            unsafe {
                // A store of a column that is narrower than a vector also fills the start of the next column, which is
                // stored afterwards. In the last step, columns are copied one by one.
                if width == STEP || (WIDTH < STEP && at + STEP < len) {
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
                let value = if first + i < count { values[(first + i) * stride + at] } else { 0.0 };
                // SAFETY: the caller's promise.
                unsafe { to.add(at * WIDTH + first + i).write(value) };
            }
        }
    }
}
