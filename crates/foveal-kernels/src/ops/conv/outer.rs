//! The gradient of the weight as a matrix product over pixels: the output's gradient times the unfolded input.
use std::ops::Range;

use rayon::prelude::*;

use super::direct::padded;
use super::geometry::Geometry;
use super::unfold::unfold_pixel;
use crate::cpu::matmul::{Finish, Left, Order, Right, Size, Target, multiply, panel_width};
use crate::cpu::parallel::{GRAIN, SharedMut};
use crate::cpu::scratch::Scratch;

/// Intended number of tasks. It is fixed, so that results do not depend on the number of threads.
const TASKS: usize = 16;
/// Maximum number of columns of the result per task.
const BLOCK: usize = 256;
/// Number of pixels whose products are summed in registers.
const PIXELS: usize = 256;
/// The unit in which columns are divided: a multiple of all widths of panels.
const UNIT: usize = 32;

/// Computes the gradient `[out_channels, in_channels / groups, kernel, kernel]` of the weight from the input `x [batch,
/// height, width, in_channels]` and the output's gradient `dy [batch, out_height, out_width, out_channels]`. A task
/// computes a block of one group's columns; if there are few blocks, each is divided further into runs of pixels, whose
/// sums are added in order.
pub(super) fn weight_grad(x: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let (depth, groups, pixels) = (g.depth(), g.groups, g.batch * g.out_plane());
    assert_eq!(x.len(), g.batch * g.in_channels * g.in_plane());
    assert_eq!(dy.len(), pixels * g.out_channels);
    let group_len = g.part_outputs() * depth;
    let len = groups * group_len;
    if len == 0 || dy.is_empty() {
        return vec![0.0; len];
    }
    let units = depth.div_ceil(UNIT);
    let blocks = units.div_ceil(BLOCK / UNIT).max(TASKS.div_ceil(groups).min(units.div_ceil(4)));
    let pieces = pixels.div_ceil(PIXELS);
    let runs = TASKS.div_ceil(groups * blocks).min(pieces);
    let mut sums: Vec<f32> = Vec::with_capacity(runs * len);
    let to = SharedMut::uninit(&mut sums.spare_capacity_mut()[..runs * len]);
    (0..runs * groups * blocks).into_par_iter().with_max_len(1).for_each(|task| {
        let (run, group, block) = (task / blocks / groups, task / blocks % groups, task % blocks);
        let [from, until] = [block, block + 1].map(|b| (b * units / blocks * UNIT).min(depth));
        let [first, last] = [run, run + 1].map(|r| (r * pieces / runs * PIXELS).min(pixels));
        let job = Job { pixels: first..last, group, columns: from..until, x, dy, g };
        // SAFETY: only this task accesses these columns of this run's sums, which lie within the buffer.
        unsafe { job.add_up(to, run * len + group * group_len) };
    });
    // SAFETY: the tasks cover all columns of all groups of all runs, and each run has a piece that initialises them.
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
    if g.taps() == 1 { sums } else { taps_last(&sums, g) }
}

/// Changes the order of weights from (output, tap, input) to (output, input, tap).
fn taps_last(sums: &[f32], g: &Geometry) -> Vec<f32> {
    let (depth, inputs, taps) = (g.depth(), g.part_inputs(), g.taps());
    let mut dw = vec![0.0; sums.len()];
    dw.par_chunks_mut(depth).zip(sums.par_chunks(depth)).with_min_len(GRAIN.div_ceil(depth)).for_each(|(to, from)| {
        for (input, to) in to.chunks_exact_mut(taps).enumerate() {
            to.iter_mut().zip(from[input..].iter().step_by(inputs)).for_each(|(to, from)| *to = *from);
        }
    });
    dw
}

/// A task: a range of columns of one group's gradient, summed over some pixels.
struct Job<'a> {
    pixels: Range<usize>,
    group: usize,
    columns: Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    g: &'a Geometry,
}

impl Job<'_> {
    /// Writes the sums over the pixels to the task's columns of a matrix `[out_channels / groups, depth]` that begins at
    /// element `start` of `to`.
    ///
    /// # Safety
    /// The task's columns must be writable, and no other thread may access them during the call.
    unsafe fn add_up(&self, to: SharedMut<'_>, start: usize) {
        let Self { pixels, group, columns, x, dy, g } = self;
        let (inputs, outputs, depth) = (g.part_inputs(), g.part_outputs(), g.depth());
        let (a_stride, b_stride) = (padded(outputs), padded(columns.len().next_multiple_of(panel_width())));
        let rows = PIXELS.min(pixels.len());
        let mut buffer = Scratch::of(rows * (a_stride + b_stride));
        let (a, b) = buffer.split_at_mut(rows * a_stride);
        let (plane, image_len) = (g.out_plane(), g.in_plane() * g.in_channels);
        for first in pixels.clone().step_by(PIXELS) {
            let piece = first..(first + PIXELS).min(pixels.end);
            for ((pixel, a), b) in piece.clone().zip(a.chunks_exact_mut(a_stride)).zip(b.chunks_exact_mut(b_stride)) {
                a[..outputs].copy_from_slice(&dy[pixel * g.out_channels + group * outputs..][..outputs]);
                let image = &x[pixel / plane * image_len + group * inputs..];
                let at = pixel % plane;
                unfold_pixel(g, image, [at / g.out_width(), at % g.out_width()], columns.clone(), b);
            }
            let size = Size { rows: outputs, columns: columns.len(), depth: piece.len() };
            let left = Left { data: a, stride: a_stride, order: Order::Columns };
            let right = Right { data: b, row_stride: b_stride, panel_stride: panel_width() };
            let finish = Finish { accumulate: first > pixels.start, ..Finish::default() };
            // SAFETY: the caller's promise on the target, which the first piece initialises.
            unsafe {
                let c = Target::shared(to, start + columns.start, depth);
                multiply(size, left, right, c, finish);
            }
        }
    }
}
