//! Weights packed into panels, as the left operand of matrix products.
use rayon::prelude::*;

use crate::cpu::matmul::{Panels, ROWS};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;

/// Matrices `[rows, depth]`, one for each group, stored with arbitrary strides.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    /// The buffer that contains the matrices of all groups.
    pub(super) values: &'a [f32],
    /// Number of matrices.
    pub(super) groups: usize,
    /// Number of rows of a matrix.
    pub(super) rows: usize,
    /// Number of columns of a matrix.
    pub(super) depth: usize,
    /// Number of elements from the start of a group's matrix to the start of the next group's.
    pub(super) group_stride: usize,
    /// Number of elements from a row to the next.
    pub(super) row_stride: usize,
    /// Number of elements from a column to the next.
    pub(super) depth_stride: usize,
}

/// [`Strided`] matrices, copied into panels of [`ROWS`] rows. The last panel of each group is padded with rows of
/// zeros.
pub(super) struct Packed {
    buffer: Scratch,
    depth: usize,
    /// Number of panels of a group.
    panels: usize,
}

impl Packed {
    pub(super) fn new(m: Strided) -> Self {
        let (stride, panels) = (m.depth * ROWS, m.rows.div_ceil(ROWS));
        let mut buffer = Scratch::of((m.groups * panels * stride).max(1));
        let to = SharedMut::new(&mut buffer);
        // Each task copies at least a few thousand elements.
        (0..m.groups * panels).into_par_iter().with_min_len((4096 / stride.max(1)).max(1)).for_each(|panel| {
            let (group, first) = (panel / panels, panel % panels * ROWS);
            // SAFETY: only this task accesses the panel, which lies within the buffer.
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

    /// The panels of a group from row `row` (a multiple of [`ROWS`]) and depth `k` on.
    pub(super) fn from(&self, group: usize, row: usize, k: usize) -> Panels<'_> {
        let stride = self.depth * ROWS;
        Panels { data: &self.buffer[(group * self.panels + row / ROWS) * stride + k * ROWS..], stride }
    }
}
