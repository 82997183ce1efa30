//! The convolution as matrix products: a stretch of the output's pixels, unfolded into panels, times the weights.
use rayon::prelude::*;

use super::epilogue::SliceEpilogue;
use super::geometry::Geometry;
use super::packed::{Packed, Strided};
use super::unfold::unfold_row;
use crate::matmul::{COLUMNS, DEPTH, Panels, ROWS, Size, Target, multiply, put_row};
use crate::parallel::SharedMut;
use crate::relu::rectified;
use crate::scratch::Scratch;

/// Pixels of a task at most: with [`DEPTH`] rows its unfolded input takes a quarter of a megabyte.
const PIXELS: usize = 256;

/// The convolution of `x` by weights `[out_channels, depth]`.
pub(super) fn convolve(x: &[f32], weight: Strided, epilogue: SliceEpilogue, g: &Geometry) -> Vec<f32> {
    let plane = g.out_plane();
    let image_len = g.in_channels * g.in_plane();
    let len = g.batch * g.out_channels * plane;
    assert_eq!(x.len(), g.batch * image_len);
    assert_eq!((weight.rows, weight.depth), (g.out_channels, g.depth()));
    assert!(epilogue.residual.is_none_or(|r| r.len() == len));
    if g.depth() == 0 || len == 0 {
        return vec![0.0; len];
    }
    let weight = Packed::new(weight);
    let mut y: Vec<f32> = Vec::with_capacity(len);
    let to = SharedMut::new(y.as_mut_ptr());
    let tasks = tasks(g, rayon::current_num_threads());
    tasks.into_par_iter().with_max_len(1).for_each(|task| {
        let input = &x[task.image * image_len..][..image_len];
        // SAFETY: no other task writes these pixels of these channels.
        unsafe { run(&task, input, &weight, epilogue, g, to) };
    });
    // SAFETY: the tasks cover all pixels of all channels, and each initialised its own.
    unsafe { y.set_len(len) };
    y
}

/// Pixels `first..last` of channels `row..last_row` of an image's output.
struct Task {
    image: usize,
    first: usize,
    last: usize,
    row: usize,
    last_row: usize,
}

/// A pixel's result does not depend on the task that it is in, so these may follow the number of threads: as many for
/// each, and channels are divided only where there are too few pixels.
fn tasks(g: &Geometry, threads: usize) -> Vec<Task> {
    let panels = g.out_plane().div_ceil(COLUMNS);
    let wanted = (g.batch * panels * COLUMNS).div_ceil(PIXELS).next_multiple_of(threads);
    let stretches = wanted.div_ceil(g.batch).min(panels);
    let row_panels = g.out_channels.div_ceil(ROWS);
    let splits = threads.div_ceil(g.batch * stretches).min(row_panels);
    let mut tasks = Vec::with_capacity(g.batch * stretches * splits);
    for image in 0..g.batch {
        for stretch in 0..stretches {
            let [first, last] = [stretch, stretch + 1].map(|s| (s * panels / stretches * COLUMNS).min(g.out_plane()));
            for split in 0..splits {
                let [row, last_row] = [split, split + 1].map(|s| (s * row_panels / splits * ROWS).min(g.out_channels));
                tasks.push(Task { image, first, last, row, last_row });
            }
        }
    }
    tasks
}

/// # Safety
/// Nobody else may touch the task's part of `y` meanwhile.
unsafe fn run(task: &Task, input: &[f32], weight: &Packed, epilogue: SliceEpilogue, g: &Geometry, y: SharedMut) {
    let (plane, depth) = (g.out_plane(), g.depth());
    let Task { image, first, last, row, last_row } = *task;
    let pixels = last - first;
    let panels = pixels.div_ceil(COLUMNS);
    let rows = DEPTH.min(depth);
    let mut buffer = Scratch::of(panels * rows * COLUMNS + pixels);
    let (columns, line) = buffer.split_at_mut(panels * rows * COLUMNS);
    let line = &mut line[..pixels];
    let start = image * g.out_channels * plane + first;
    for k in (0..depth).step_by(DEPTH) {
        let block = (depth - k).min(DEPTH);
        for i in 0..block {
            if g.is_pointwise() {
                put_row(columns, block, i, &input[(k + i) * plane + first..][..pixels]);
            } else {
                unfold_row(g, input, k + i, first, line);
                put_row(columns, block, i, line);
            }
        }
        let size = Size { rows: last_row - row, columns: pixels, depth: block };
        let b = Panels { data: columns.as_ptr(), stride: block * COLUMNS };
        // SAFETY: the operands have whole panels, `block` deep; the target is this task's own, initialised by the first
        // block before the others add to it.
        unsafe {
            let data = y.at(start + row * plane);
            let c = Target { data, row_stride: plane, panel_stride: COLUMNS };
            multiply(size, weight.from(row, k), b, c, k > 0);
        }
    }
    for channel in row..last_row {
        let at = start + channel * plane;
        // SAFETY: this task's own pixels, initialised above.
        let y = unsafe { std::slice::from_raw_parts_mut(y.at(at), pixels) };
        finish(y, at, channel, &epilogue);
    }
}

/// Applies the epilogue to some pixels of a channel, which begin at element `at` of the result.
fn finish(y: &mut [f32], at: usize, channel: usize, epilogue: &SliceEpilogue) {
    let SliceEpilogue { scale, shift, residual, rectify } = epilogue;
    if scale.is_some() || shift.is_some() {
        let (scale, shift) = (epilogue.scale_of(channel), epilogue.shift_of(channel));
        y.iter_mut().for_each(|y| *y = *y * scale + shift);
    }
    if let Some(residual) = residual {
        y.iter_mut().zip(&residual[at..]).for_each(|(y, r)| *y += r);
    }
    if *rectify {
        y.iter_mut().for_each(|y| *y = rectified(*y));
    }
}
