//! The convolution as matrix products: a range of the output's pixels, with the values that each of them reads, times the
//! weights.
use rayon::prelude::*;

use super::epilogue::SliceEpilogue;
use super::geometry::Geometry;
use super::packed::Packed;
use super::unfold::unfold_pixel;
use crate::cpu::matmul::{Left, Order, Size, Target, block_rows, multiply, panel_width};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;

/// Number of elements of a left operand that a task reads, so that they stay in the second-level cache.
const BLOCK: usize = 1 << 17;
/// Distances of rows that are multiples of this number map the rows to the same sets of the first-level cache.
const BAD_STRIDE: usize = 1024;

/// Convolves `x` with the weights `[depth, out_channels / groups]` of each group, where a row of the depth is a tap and a
/// channel.
///
/// # Shapes
/// `x [batch, height, width, in_channels]`; the result is `[batch, out_height, out_width, out_channels]`.
pub(super) fn convolve(x: &[f32], weight: &Packed, epilogue: &SliceEpilogue, g: &Geometry) -> Vec<f32> {
    let len = g.batch * g.out_channels * g.out_plane();
    assert_eq!(x.len(), g.batch * g.in_channels * g.in_plane());
    assert_eq!((weight.groups, weight.columns, weight.depth), (g.groups, g.part_outputs(), g.depth()));
    assert!(epilogue.fits(g.out_channels, len));
    if g.depth() == 0 || len == 0 {
        return vec![0.0; len];
    }
    let mut y: Vec<f32> = Vec::with_capacity(len);
    let to = SharedMut::uninit(&mut y.spare_capacity_mut()[..len]);
    let tasks = tasks(g.batch * g.out_plane(), g.groups, g.depth(), g.part_outputs());
    tasks.into_par_iter().with_max_len(1).for_each(|task| {
        // SAFETY: no other task accesses these pixels of these channels.
        unsafe { run(&task, x, weight, epilogue, g, to) };
    });
    // SAFETY: the tasks cover all pixels of all channels, and each initialised its own.
    unsafe { y.set_len(len) };
    y
}

/// A task: pixels `first..last` of columns `column..last_column` of a group.
pub(super) struct Task {
    pub(super) group: usize,
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) column: usize,
    pub(super) last_column: usize,
}

/// Divides products `[pixels, depth] * [depth, columns]` of each group into tasks. The result of a pixel does not depend
/// on its task, so the division may depend on the number of threads: each gets about the same number of tasks, and
/// columns are divided only if there are too few pixels.
pub(super) fn tasks(pixels: usize, groups: usize, depth: usize, columns: usize) -> Vec<Task> {
    let (threads, rows, width) = (rayon::current_num_threads(), block_rows(), panel_width());
    let blocks = pixels.div_ceil(rows);
    let most = (BLOCK / depth / rows).clamp(1, 16);
    let stretches = blocks.div_ceil(most).next_multiple_of(threads).min(blocks);
    let panels = columns.div_ceil(width);
    let splits = (2 * threads).div_ceil(groups * stretches).min(panels);
    let mut tasks = Vec::with_capacity(groups * stretches * splits);
    for stretch in 0..stretches {
        let [first, last] = [stretch, stretch + 1].map(|s| (s * blocks / stretches * rows).min(pixels));
        for group in 0..groups {
            for split in 0..splits {
                let [column, last_column] = [split, split + 1].map(|s| (s * panels / splits * width).min(columns));
                tasks.push(Task { group, first, last, column, last_column });
            }
        }
    }
    tasks
}

/// Number of elements from one row to the next where rows of `len` elements are copied, so that the rows map to different
/// sets of the caches.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(16) + 16
}

/// Computes a task's pixels.
///
/// # Safety
/// Nobody else may access the task's pixels of `y` meanwhile.
unsafe fn run(task: &Task, x: &[f32], weight: &Packed, epilogue: &SliceEpilogue, g: &Geometry, y: SharedMut<'_>) {
    let Task { group, first, last, column, last_column } = *task;
    let (depth, inputs) = (g.depth(), g.part_inputs());
    let mut buffer;
    let a = if g.is_pointwise() && !g.in_channels.is_multiple_of(BAD_STRIDE) {
        Left { data: &x[first * g.in_channels + group * inputs..], stride: g.in_channels, order: Order::Rows }
    } else {
        let stride = padded(depth);
        buffer = Scratch::of((last - first) * stride);
        let (plane, image_len) = (g.out_plane(), g.in_plane() * g.in_channels);
        for (pixel, row) in (first..last).zip(buffer.chunks_exact_mut(stride)) {
            let image = &x[pixel / plane * image_len + group * inputs..];
            let at = pixel % plane;
            unfold_pixel(g, image, [at / g.out_width(), at % g.out_width()], 0..depth, row);
        }
        Left { data: &buffer, stride, order: Order::Rows }
    };
    let channel = group * g.part_outputs() + column;
    let at = first * g.out_channels + channel;
    let size = Size { rows: last - first, columns: last_column - column, depth };
    // SAFETY: only this task accesses the target.
    unsafe {
        let c = Target::shared(y, at, g.out_channels);
        multiply(size, a, weight.right(group, column), c, epilogue.from(channel, at));
    }
}
