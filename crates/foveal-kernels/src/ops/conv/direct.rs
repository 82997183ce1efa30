//! The convolution as matrix products: the weights times a range of the output's pixels, unfolded into panels.
use rayon::prelude::*;

use super::geometry::Geometry;
use super::packed::Packed;
use super::tasks::{Places, Task, tasks};
use super::unfold::unfold_row;
use crate::cpu::matmul::{COLUMNS, DEPTH, Finish, Panels, ROW_BLOCK, ROWS, Size, Target};
use crate::cpu::matmul::{multiply, multiply_finish, put_row};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;

/// Convolves `x` with the weights `[out_channels / groups, depth]` of each group.
///
/// # Shapes
/// `x [batch, in_channels, height, width]`; the result is `[batch, out_channels, out_height, out_width]`.
pub(super) fn convolve(x: &[f32], weight: &Packed, epilogue: Finish, g: &Geometry) -> Vec<f32> {
    let plane = g.out_plane();
    let part_len = g.part_inputs() * g.in_plane();
    let len = g.batch * g.out_channels * plane;
    assert_eq!(x.len(), g.parts() * part_len);
    assert_eq!(weight.dims(), [g.groups, g.part_outputs().div_ceil(ROWS), g.depth()]);
    assert!(epilogue.residual.is_none_or(|r| r.len() == len));
    assert!([epilogue.scale, epilogue.shift].into_iter().flatten().all(|values| values.len() == g.out_channels));
    if g.depth() == 0 || len == 0 {
        return vec![0.0; len];
    }
    let mut y: Vec<f32> = Vec::with_capacity(len);
    let to = SharedMut::uninit(&mut y.spare_capacity_mut()[..len]);
    let tasks = tasks(g.parts(), Places { count: plane, unit: COLUMNS, pixels: 1 }, g.part_outputs());
    tasks.into_par_iter().with_max_len(1).for_each(|task| {
        let input = &x[task.part * part_len..][..part_len];
        // SAFETY: no other task accesses these pixels of these channels.
        unsafe { run(&task, input, weight, epilogue, g, to) };
    });
    // SAFETY: the tasks cover all pixels of all channels, and each initialised its own.
    unsafe { y.set_len(len) };
    y
}

/// Computes a task's pixels from its part's input.
///
/// # Safety
/// Nobody else may access the task's pixels of `y` meanwhile.
unsafe fn run(task: &Task, input: &[f32], weight: &Packed, epilogue: Finish, g: &Geometry, y: SharedMut<'_>) {
    let (plane, depth) = (g.out_plane(), g.depth());
    let Task { part, places, channels } = task;
    let (part, first, pixels) = (*part, places.start, places.len());
    let group = g.group_of(part);
    let panels = pixels.div_ceil(COLUMNS);
    let rows = DEPTH.min(depth);
    let mut buffer = Scratch::of(panels * rows * COLUMNS + pixels);
    let (columns, line) = buffer.split_at_mut(panels * rows * COLUMNS);
    let line = &mut line[..pixels];
    let start = part * g.part_outputs() * plane + first;
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
        let b = Panels { data: columns, stride: block * COLUMNS };
        for row in channels.clone().step_by(ROW_BLOCK) {
            let size = Size { rows: (channels.end - row).min(ROW_BLOCK), columns: pixels, depth: block };
            let a = weight.from(group, row, k);
            let at = start + row * plane;
            // SAFETY: the operands have whole panels of depth `block`; only this task accesses the target, which the
            // first block of the depth initialises before the others add to it. The residual has the shape of the
            // result.
            unsafe {
                let c = Target::shared(y, at, plane, COLUMNS);
                if epilogue.is_none() || k + block < depth {
                    multiply(size, a, b, c, k > 0);
                } else {
                    let channel = group * g.part_outputs() + row;
                    multiply_finish(size, a, b, c, k > 0, epilogue.from(channel, at));
                }
            }
        }
    }
}
