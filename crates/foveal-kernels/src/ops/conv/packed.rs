//! Weights packed into panels, as the left operand of matrix products.
use rayon::prelude::*;

use super::geometry::Geometry;
use super::outer::{Lines, turn_rows};
use crate::cpu::matmul::{Panels, ROWS};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;

/// Number of panels that [`Packed::transposed`] packs at a time: they share cache lines of the weight.
const RUN: usize = 8;

/// Matrices `[rows, depth]` in the order of memory, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Matrices<'a> {
    /// The elements of the matrices of all groups.
    pub(super) values: &'a [f32],
    /// Number of matrices.
    pub(super) groups: usize,
    /// Number of rows of a matrix.
    pub(super) rows: usize,
    /// Number of columns of a matrix.
    pub(super) depth: usize,
}

/// [`Matrices`], copied into panels of [`ROWS`] rows. The last panel of each group is padded with rows of
/// zeros.
pub(super) struct Packed {
    buffer: Scratch,
    depth: usize,
    /// Number of panels of a group.
    panels: usize,
    groups: usize,
}

impl Packed {
    /// Packs the matrices into a buffer that `buffer` makes for a length.
    pub(super) fn new(m: Matrices, buffer: fn(usize) -> Scratch) -> Self {
        let (stride, panels) = (m.depth * ROWS, m.rows.div_ceil(ROWS));
        let mut buffer = buffer((m.groups * panels * stride).max(1));
        let to = SharedMut::new(&mut buffer);
        // Each task copies at least a few thousand elements.
        (0..if m.depth > 0 { m.groups * panels } else { 0 })
            .into_par_iter()
            .with_min_len((4096 / stride.max(1)).max(1))
            .for_each(|panel| {
                let (group, first) = (panel / panels, panel % panels * ROWS);
                let rows = (m.rows - first).min(ROWS);
                let values = &m.values[(group * m.rows + first) * m.depth..];
                let lines = Lines { values, count: rows, stride: m.depth };
                // SAFETY: only this task accesses the panel, which lies within the buffer.
                unsafe { turn_rows(lines, m.depth, to.at(panel * stride)) };
            });
        Self { buffer, depth: m.depth, panels, groups: m.groups }
    }

    /// Packs the transposed weights of each group of a convolution: a row for each input channel, and a column for each
    /// tap and output channel, tap by tap in the order of `taps`. The weights of an output channel are multiplied by
    /// its `scale`.
    pub(super) fn transposed(w: &[f32], scale: Option<&[f32]>, g: &Geometry, taps: &[usize]) -> Self {
        let (inputs, outputs, all) = (g.part_inputs(), g.part_outputs(), g.taps());
        let (depth, panels) = (taps.len() * outputs, inputs.div_ceil(ROWS));
        let stride = depth * ROWS;
        let mut buffer = Scratch::of((g.groups * panels * stride).max(1));
        let to = SharedMut::new(&mut buffer);
        // The panels of a run are packed together, because they share cache lines of the weight.
        let runs = panels.div_ceil(RUN);
        (0..g.groups * runs).into_par_iter().for_each(|run| {
            let (group, first) = (run / runs, run % runs * RUN);
            let run = first..(first + RUN).min(panels);
            for output in 0..outputs {
                let channel = group * outputs + output;
                let factor = scale.map_or(1.0, |scale| scale[channel]);
                let from = &w[channel * inputs * all..][..inputs * all];
                for panel in run.clone() {
                    let from = &from[panel * ROWS * all..];
                    // SAFETY: only this task accesses the panel, which lies within the buffer.
                    let to = unsafe { to.at((group * panels + panel) * stride + output * ROWS) };
                    for (place, tap) in taps.iter().enumerate() {
                        // SAFETY: the panel has a row of this tap and output channel.
                        let to = unsafe { &mut *to.add(place * outputs * ROWS).cast::<[f32; ROWS]>() };
                        *to = match from.first_chunk::<ROWS>() {
                            Some(from) if all == 1 => from.map(|w| w * factor),
                            _ => std::array::from_fn(|row| from.get(row * all + tap).map_or(0.0, |w| w * factor)),
                        };
                    }
                }
            }
        });
        Self { buffer, depth, panels, groups: g.groups }
    }

    /// Number of matrices, number of panels of each, and number of columns of each.
    pub(super) fn dims(&self) -> [usize; 3] {
        [self.groups, self.panels, self.depth]
    }

    /// The panels of a group from row `row` (a multiple of [`ROWS`]) and depth `k` on.
    pub(super) fn from(&self, group: usize, row: usize, k: usize) -> Panels<'_> {
        let stride = self.depth * ROWS;
        Panels { data: &self.buffer[(group * self.panels + row / ROWS) * stride + k * ROWS..], stride }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_hold_the_matrices() {
        for (groups, rows, depth) in [(1, 6, 8), (1, 1, 1), (2, 13, 17), (3, 12, 40), (1, 5, 0)] {
            let values: Vec<f32> = (0..groups * rows * depth).map(|i| i as f32 + 1.0).collect();
            let packed = Packed::new(Matrices { values: &values, groups, rows, depth }, Scratch::of);
            for (group, k) in (0..groups).flat_map(|group| (0..depth).map(move |k| (group, k))) {
                for row in 0..rows.next_multiple_of(ROWS) {
                    let found = packed.from(group, row / ROWS * ROWS, k).data[row % ROWS];
                    let expected = if row < rows { values[(group * rows + row) * depth + k] } else { 0.0 };
                    assert_eq!(found, expected, "{rows}x{depth}, group {group}, row {row}, depth {k}");
                }
            }
        }
    }
}
