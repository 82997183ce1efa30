//! The gradient of the input at any stride: a dense convolution of the output's gradient for each phase, which is the
//! remainder of an input pixel's row and column by the stride.
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::geometry::Geometry;
use super::packed::Packed;
use super::tasks::{Places, Task, tasks};
use crate::cpu::compiled::{Work, compiled};
use crate::cpu::matmul::{COLUMNS, DEPTH, Panels, ROW_BLOCK, Size, Target, multiply, put_row};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;

/// Computes the gradient of the input from the weight, the factor of each output channel and the output's gradient
/// `dy`.
///
/// # Shapes
/// `w [out_channels, in_channels / groups, kernel, kernel]`, `scale [out_channels]`,
/// `dy [batch, out_channels, out_height, out_width]`; the result is `[batch, in_channels, height, width]`.
pub(super) fn input_grad(w: &[f32], scale: Option<&[f32]>, dy: &[f32], g: &Geometry) -> Vec<f32> {
    let len = g.batch * g.in_channels * g.in_plane();
    assert_eq!(dy.len(), g.batch * g.out_channels * g.out_plane());
    assert_eq!(w.len(), g.out_channels * g.depth());
    if len == 0 || dy.is_empty() {
        return vec![0.0; len];
    }
    let taps: Vec<Vec<Tap>> = (0..g.stride).map(|phase| Tap::of(g, phase)).collect();
    let mut order = Vec::with_capacity(g.taps());
    let mut phases = Vec::with_capacity(g.stride * g.stride);
    for rows in &taps {
        for columns in &taps {
            let first = order.len();
            order.extend(rows.iter().flat_map(|row| columns.iter().map(|column| [*row, *column])));
            phases.push(first..order.len());
        }
    }
    let numbers: Vec<usize> = order.iter().map(|[row, column]| row.kernel * g.kernel + column.kernel).collect();
    let weight = Packed::transposed(w, scale, g, &numbers);
    let plan = Plan { weight: &weight, taps: &order, phases: &phases, g };
    let mut dx: Vec<f32> = Vec::with_capacity(len);
    let to = SharedMut::uninit(&mut dx.spare_capacity_mut()[..len]);
    divided(g).into_par_iter().with_max_len(1).for_each(|task| {
        // SAFETY: no other task accesses these rows of these channels.
        unsafe { plan.run(&task, dy, to) };
    });
    // SAFETY: the tasks cover all rows of all channels, and each initialised its own.
    unsafe { dx.set_len(len) };
    dx
}

/// A row or column of the kernel that reaches the input pixels of a phase along one axis.
#[derive(Clone, Copy, Debug)]
struct Tap {
    /// Index of the row or column in the kernel.
    kernel: usize,
    /// Input pixel `i * stride + phase` receives from output pixel `i + shift`.
    shift: isize,
}

impl Tap {
    /// The rows or columns of the kernel that reach the pixels of a phase.
    fn of(g: &Geometry, phase: usize) -> Vec<Self> {
        let reaches = |kernel: &usize| kernel % g.stride == (phase + g.padding) % g.stride;
        let tap = |kernel| Self { kernel, shift: ((phase + g.padding) as isize - kernel as isize) / g.stride as isize };
        (0..g.kernel).filter(reaches).map(tap).collect()
    }
}

/// Divides the input into tasks, whose places are the rows of a phase: input rows `places.start * stride` to
/// `places.end * stride`.
fn divided(g: &Geometry) -> Vec<Task> {
    let [height, width] = [g.height, g.width].map(|size| size.div_ceil(g.stride));
    // The smallest number of rows whose pixels fill whole panels.
    let unit = (1..COLUMNS).find(|rows| (rows * width).is_multiple_of(COLUMNS)).unwrap_or(COLUMNS);
    tasks(g.parts(), Places { count: height, unit, pixels: width }, g.part_inputs())
}

/// What all tasks share.
struct Plan<'a> {
    /// The transposed weights, by taps in the order of `taps` and then by output channels.
    weight: &'a Packed,
    /// Row and column of each tap, phase by phase.
    taps: &'a [[Tap; 2]],
    /// The taps of each phase, by rows and then by columns.
    phases: &'a [Range<usize>],
    g: &'a Geometry,
}

impl Plan<'_> {
    /// Computes a task's rows.
    ///
    /// # Safety
    /// Nobody else may access the task's rows of `dx` meanwhile.
    unsafe fn run(&self, task: &Task, dy: &[f32], dx: SharedMut<'_>) {
        let (g, rows) = (self.g, &task.places);
        let channels = task.channels.len();
        let most = rows.len() * g.width.div_ceil(g.stride);
        let depth = self.phases.iter().map(|taps| taps.len() * g.part_outputs()).max().unwrap_or(0).min(DEPTH);
        let right = most.next_multiple_of(COLUMNS) * depth;
        // With a stride of 1 the only phase is computed at its place.
        let each = if g.stride > 1 { channels * most } else { 0 };
        let mut buffer = Scratch::of(right + most + g.stride * each);
        let (right, rest) = buffer.split_at_mut(right);
        let (line, phases) = rest.split_at_mut(most);
        let plane = g.in_plane();
        let start = (task.part * g.part_inputs() + task.channels.start) * plane;
        if g.stride == 1 {
            // SAFETY: only this task accesses these rows.
            let to = unsafe { Target::shared(dx, start + rows.start * g.width, plane, COLUMNS) };
            // SAFETY: the target has the task's rows of each channel.
            return unsafe { self.phase(task, [0, 0], dy, to, right, line) };
        }
        for row_phase in 0..g.stride {
            let count = phase_rows(g, row_phase, rows);
            for (phase, buffer) in phases.chunks_exact_mut(each).take(g.stride).enumerate() {
                let pixels = count * g.width.saturating_sub(phase).div_ceil(g.stride);
                if pixels == 0 {
                    continue;
                }
                let to = Target::new(buffer, pixels, COLUMNS);
                // SAFETY: the buffer has `pixels` elements for each channel.
                unsafe { self.phase(task, [row_phase, phase], dy, to, right, line) };
            }
            for channel in 0..channels {
                for i in 0..count {
                    let at = start + channel * plane + ((rows.start + i) * g.stride + row_phase) * g.width;
                    // SAFETY: only this task accesses this row, which lies within the result; it may be uninitialised.
                    let to = unsafe { std::slice::from_raw_parts_mut(dx.at(at).cast(), g.width) };
                    compiled(Interleave { phases, each, at: [channel * count, i], stride: g.stride, to });
                }
            }
        }
    }

    /// Computes the pixels of a phase in the task's rows, into the matrix `[channels, pixels]` at `to`.
    ///
    /// # Safety
    /// `to` must be writable at all elements of the matrix, and nobody else may access them meanwhile.
    unsafe fn phase(
        &self,
        task: &Task,
        [row_phase, column_phase]: [usize; 2],
        dy: &[f32],
        mut to: Target<'_>,
        right: &mut [f32],
        line: &mut [f32],
    ) {
        let (g, outputs, plane) = (self.g, self.g.part_outputs(), self.g.out_plane());
        let taps = self.phases[row_phase * g.stride + column_phase].clone();
        let width = g.width.saturating_sub(column_phase).div_ceil(g.stride);
        let count = phase_rows(g, row_phase, &task.places);
        let line = &mut line[..count * width];
        let dy = &dy[task.part * outputs * plane..][..outputs * plane];
        if taps.is_empty() {
            // SAFETY: the caller's promise.
            return unsafe { to.clear(task.channels.len(), line.len()) };
        }
        let (from, until) = (taps.start * outputs, taps.end * outputs);
        for k in (from..until).step_by(DEPTH) {
            let depth = (until - k).min(DEPTH);
            for i in 0..depth {
                let (tap, output) = ((k + i) / outputs, (k + i) % outputs);
                let first = task.places.start;
                compiled(Shifted {
                    plane: &dy[output * plane..][..plane],
                    taps: self.taps[tap],
                    first,
                    width,
                    g,
                    line,
                });
                put_row(right, depth, i, line);
            }
            let b = Panels { data: right, stride: depth * COLUMNS };
            for row in task.channels.clone().step_by(ROW_BLOCK) {
                let rows = (task.channels.end - row).min(ROW_BLOCK);
                let size = Size { rows, columns: line.len(), depth };
                let a = self.weight.from(g.group_of(task.part), row, k);
                // SAFETY: the operands have whole panels of depth `depth`; the caller's promise on the target, which
                // the first block of the depth initialises.
                unsafe { multiply(size, a, b, to.rows_from(row - task.channels.start), k > from) };
            }
        }
    }
}

/// The number of rows of a phase among `rows`, of which the last may have no pixels of the phase.
fn phase_rows(g: &Geometry, phase: usize, rows: &Range<usize>) -> usize {
    let height = g.height.saturating_sub(phase).div_ceil(g.stride);
    rows.end.min(height).saturating_sub(rows.start)
}

/// Writes what a phase's rows of length `width`, from row `first` on, read of an output channel at a tap.
struct Shifted<'a> {
    plane: &'a [f32],
    taps: [Tap; 2],
    first: usize,
    width: usize,
    g: &'a Geometry,
    line: &'a mut [f32],
}

impl Work for Shifted<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { plane, taps: [row_tap, column_tap], first, width, g, line } = self;
        let (height, from_width, shift) = (g.out_height(), g.out_width(), column_tap.shift);
        // The columns that read inside the output.
        let lo = shift.min(0).unsigned_abs().min(width);
        let hi = from_width.saturating_add_signed(-shift).min(width).max(lo);
        for (i, to) in line.chunks_exact_mut(width).enumerate() {
            let from = (first + i).checked_add_signed(row_tap.shift).filter(|&row| row < height && lo < hi);
            let Some(from) = from else {
                to.fill(0.0);
                continue;
            };
            let from = &plane[from * from_width..][..from_width];
            to[..lo].fill(0.0);
            to[hi..].fill(0.0);
            to[lo..hi].copy_from_slice(&from[lo.saturating_add_signed(shift)..][..hi - lo]);
        }
    }
}

/// Writes a row of the input from the same row of all phases of its columns.
struct Interleave<'a> {
    /// The buffers of the phases, of `each` elements.
    phases: &'a [f32],
    each: usize,
    /// Number of rows before the row's channel, and the row's index within the channel.
    at: [usize; 2],
    stride: usize,
    to: &'a mut [MaybeUninit<f32>],
}

impl Work for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { phases, each, at: [before, i], stride, to } = self;
        let all = to.len();
        let row = |phase: usize| {
            let width = all.saturating_sub(phase).div_ceil(stride);
            &phases[phase * each + (before + i) * width..][..width]
        };
        if stride == 2 {
            let (even, odd) = (row(0), row(1));
            // The loop over pairs vectorises.
            let (pairs, last) = to.as_chunks_mut::<2>();
            for ((to, even), odd) in pairs.iter_mut().zip(even).zip(odd) {
                *to = [MaybeUninit::new(*even), MaybeUninit::new(*odd)];
            }
            if let ([last], Some(even)) = (last, even.last()) {
                last.write(*even);
            }
            return;
        }
        for phase in 0..stride {
            let from = row(phase);
            for (to, from) in to.iter_mut().skip(phase).step_by(stride).zip(from) {
                to.write(*from);
            }
        }
    }
}
