//! Weights as a left operand in panels.
use rayon::prelude::*;

use crate::cpu::matmul::{Panels, ROWS};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;

/// Matrices `[rows, depth]` in memory with any strides, one for each group.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub(super) values: &'a [f32],
    pub(super) groups: usize,
    pub(super) rows: usize,
    pub(super) depth: usize,
    /// Elements from a group's matrix to the next group's.
    pub(super) group_stride: usize,
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
}

/// [`Strided`] matrices copied into panels of [`ROWS`] rows; a group's last panel is filled up with rows of zeros.
pub(super) struct Packed {
    buffer: Scratch,
    depth: usize,
    /// Panels of a group.
    panels: usize,
}

impl Packed {
    pub(super) fn new(m: Strided) -> Self {
        let (stride, panels) = (m.depth * ROWS, m.rows.div_ceil(ROWS));
        let mut buffer = Scratch::of((m.groups * panels * stride).max(1));
        let to = SharedMut::new(&mut buffer);
        // A task of at least some thousand elements.
        (0..m.groups * panels).into_par_iter().with_min_len((4096 / stride.max(1)).max(1)).for_each(|panel| {
            let (group, first) = (panel / panels, panel % panels * ROWS);
            // SAFETY: a panel is its task's own, and lies within the buffer.
            let to = unsafe { std::slice::from_raw_parts_mut(to.at(panel * stride), stride) };
            for lane in 0..ROWS {
                let row = first + lane;
                let to = to[lane.min(stride)..].iter_mut().step_by(ROWS);
                if row >= m.rows {
                    to.for_each(|to| *to = 0.0);
                } else if m.depth > 0 {
                    let from = m.values[group * m.group_stride + row * m.row_stride..].iter().step_by(m.depth_stride);
                    to.zip(from).for_each(|(to, from)| *to = *from);
                }
            }
        });
        Self { buffer, depth: m.depth, panels }
    }

    /// A group's panels from row `row` (a multiple of [`ROWS`]) and depth `k` on.
    pub(super) fn from(&self, group: usize, row: usize, k: usize) -> Panels<'_> {
        let stride = self.depth * ROWS;
        Panels { data: &self.buffer[(group * self.panels + row / ROWS) * stride + k * ROWS..], stride }
    }
}
