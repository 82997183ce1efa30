//! Weights as a left operand in panels.
use rayon::prelude::*;

use crate::matmul::{Panels, ROWS};
use crate::parallel::SharedMut;
use crate::scratch::Scratch;

/// A matrix `[rows, depth]` in memory with any strides.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
}

/// The same in panels of [`ROWS`] rows; rows that there are not are zeros.
pub(super) struct Packed {
    buffer: Scratch,
    depth: usize,
}

impl Packed {
    pub(super) fn new(m: Strided) -> Self {
        let (stride, panels) = (m.depth * ROWS, m.rows.div_ceil(ROWS));
        let mut buffer = Scratch::of((panels * stride).max(1));
        let to = SharedMut::new(buffer.as_mut_ptr());
        // A task of at least some thousand elements.
        (0..panels).into_par_iter().with_min_len((4096 / stride.max(1)).max(1)).for_each(|panel| {
            // SAFETY: a panel is its task's own, and lies within the buffer.
            let to = unsafe { std::slice::from_raw_parts_mut(to.at(panel * stride), stride) };
            for lane in 0..ROWS {
                let row = panel * ROWS + lane;
                let to = to[lane.min(stride)..].iter_mut().step_by(ROWS);
                if row >= m.rows {
                    to.for_each(|to| *to = 0.0);
                } else if m.depth > 0 {
                    let from = m.values[row * m.row_stride..].iter().step_by(m.depth_stride);
                    to.zip(from).for_each(|(to, from)| *to = *from);
                }
            }
        });
        Self { buffer, depth: m.depth }
    }

    /// Panels from row `row` (a multiple of [`ROWS`]) and depth `k` on.
    pub(super) fn from(&self, row: usize, k: usize) -> Panels {
        let stride = self.depth * ROWS;
        Panels { data: self.buffer[row / ROWS * stride + k * ROWS..].as_ptr(), stride }
    }
}
