//! Weights packed into panels, as the right operand of matrix products.
use rayon::prelude::*;

use crate::cpu::matmul::{Right, panel_width};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;

/// The weights of a convolution as matrices `[taps * channels, columns]`, one for each group, stored with arbitrary
/// strides: tap `t` of the kernel from channel `c` to column `n` of group `g` is at `g * group_stride + c *
/// channel_stride + n * column_stride + t`.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    /// The buffer that contains the matrices of all groups.
    pub(super) values: &'a [f32],
    /// Number of matrices.
    pub(super) groups: usize,
    /// The taps that the rows of a matrix are made of, in order.
    pub(super) taps: &'a [usize],
    /// Number of channels of each tap.
    pub(super) channels: usize,
    /// Number of columns of a matrix.
    pub(super) columns: usize,
    pub(super) group_stride: usize,
    pub(super) channel_stride: usize,
    pub(super) column_stride: usize,
}

impl Weights<'_> {
    /// Number of rows of a matrix.
    pub(super) fn depth(&self) -> usize {
        self.taps.len() * self.channels
    }
}

/// Number of channels that are copied at a time for each column: those that one line of the caches holds in the smallest
/// weights.
const CHANNELS: usize = 16;

/// [`Weights`], copied into panels. The last panel of each group is padded with columns of zeros.
pub(super) struct Packed {
    buffer: Scratch,
    pub(super) groups: usize,
    pub(super) depth: usize,
    pub(super) columns: usize,
    width: usize,
}

impl Packed {
    pub(super) fn new(w: Weights) -> Self {
        let (width, depth) = (panel_width(), w.depth());
        let (panels, stride) = (w.columns.div_ceil(width), depth * width);
        let mut buffer = Scratch::of((w.groups * panels * stride).max(1));
        let to = SharedMut::new(&mut buffer);
        // Each task copies at least a few thousand elements.
        (0..w.groups * panels).into_par_iter().with_min_len((4096 / stride.max(1)).max(1)).for_each(|panel| {
            let (group, first) = (panel / panels, panel % panels * width);
            // SAFETY: only this task accesses the panel, which lies within the buffer.
            let to = unsafe { std::slice::from_raw_parts_mut(to.at(panel * stride), stride) };
            let columns = (w.columns - first).min(width);
            for (t, to) in w.taps.iter().zip(to.chunks_exact_mut(w.channels * width)) {
                let from = &w.values[group * w.group_stride + first * w.column_stride + t..];
                for (block, to) in to.chunks_mut(CHANNELS * width).enumerate() {
                    let from = &from[block * CHANNELS * w.channel_stride..];
                    if w.column_stride == 1 {
                        for (row, to) in to.chunks_exact_mut(width).enumerate() {
                            to[..columns].copy_from_slice(&from[row * w.channel_stride..][..columns]);
                        }
                        continue;
                    }
                    for column in 0..columns {
                        let from = from[column * w.column_stride..].iter().step_by(w.channel_stride);
                        to[column..].iter_mut().step_by(width).zip(from).for_each(|(to, from)| *to = *from);
                    }
                }
                for to in to.chunks_exact_mut(width) {
                    to[columns..].fill(0.0);
                }
            }
        });
        Self { buffer, groups: w.groups, depth, columns: w.columns, width }
    }

    /// The panels of a group from column `column` (a multiple of [`panel_width`]) on.
    pub(super) fn right(&self, group: usize, column: usize) -> Right<'_> {
        let panel_stride = self.depth * self.width;
        let panel = group * self.columns.div_ceil(self.width) + column / self.width;
        let data = &self.buffer[panel * panel_stride..];
        Right { data, row_stride: self.width, panel_stride }
    }
}
