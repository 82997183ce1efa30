//! The transform of the weights.
use std::ops::Range;

use rayon::prelude::*;

use super::transform::{Kernel, POSITIONS, both_ways};
use crate::cpu::matmul::isa::on_best_isa;
use crate::cpu::matmul::lanes::Lanes;
use crate::cpu::matmul::{Right, panel_width};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;

/// 3x3 weights in memory: tap `t` of the kernel from input channel `i` to output channel `o` is at
/// `o * output_stride + i * input_stride + t`.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    /// The buffer that contains the weights.
    pub(crate) values: &'a [f32],
    /// Number of output channels.
    pub(crate) outputs: usize,
    /// Number of input channels.
    pub(crate) inputs: usize,
    /// Number of elements from an output channel to the next.
    pub(crate) output_stride: usize,
    /// Number of elements from an input channel to the next.
    pub(crate) input_stride: usize,
    /// Whether the kernel is rotated by 180 degrees.
    pub(crate) turned: bool,
}

/// Number of taps of a 3x3 kernel.
const TAPS: usize = 9;
/// The largest width of a panel.
const WIDEST: usize = 32;

/// The transformed weights: for each position a right operand `[inputs, outputs]`, packed into panels.
pub(super) struct Transformed {
    buffer: Scratch,
    width: usize,
    panel_stride: usize,
    position_stride: usize,
}

impl Transformed {
    pub(super) fn new(w: Weights) -> Self {
        assert!(
            w.outputs * w.inputs == 0 || {
                let last = (w.outputs - 1) * w.output_stride + (w.inputs - 1) * w.input_stride;
                last + TAPS <= w.values.len()
            }
        );
        let width = panel_width();
        let panel_stride = w.inputs * width;
        let panels = w.outputs.div_ceil(width);
        // One additional line, so that the positions do not all map to the same sets of the caches.
        let position_stride = panels * panel_stride + 16;
        let mut buffer = Scratch::of(POSITIONS * position_stride);
        let to = SharedMut::new(&mut buffer);
        let parts = w.inputs.div_ceil(INPUTS);
        (0..panels * parts).into_par_iter().for_each(|task| {
            let (panel, part) = (task / parts, task % parts);
            let inputs = part * INPUTS..((part + 1) * INPUTS).min(w.inputs);
            // SAFETY: the address is that of these rows of the panel at position 0; only this task accesses them, at all
            // positions.
            unsafe {
                let to = to.at(panel * panel_stride + inputs.start * width);
                transform(&w, panel * width, inputs, to, position_stride);
            }
        });
        Self { buffer, width, panel_stride, position_stride }
    }

    /// The right operand for a position.
    pub(super) fn right(&self, position: usize) -> Right<'_> {
        let data = &self.buffer[position * self.position_stride..];
        Right { data, row_stride: self.width, panel_stride: self.panel_stride }
    }
}

/// Number of input channels of a task.
const INPUTS: usize = 64;

on_best_isa! {
    /// Transforms the weights of one panel of output channels, from `first` on, and some input channels. Output channels
    /// beyond the last give zeros.
    ///
    /// # Safety
    /// `[POSITIONS, inputs, panel width]` must be writable at `to`, positions `position_stride` apart.
    unsafe fn transform(
        w: &Weights<'_>, first: usize, inputs: Range<usize>, to: *mut f32, position_stride: usize,
    ) = transform_on
}

#[inline(always)]
unsafe fn transform_on<L: Lanes, const V: usize, const R: usize>(
    w: &Weights<'_>,
    first: usize,
    inputs: Range<usize>,
    to: *mut f32,
    position_stride: usize,
) {
    let width = V * L::N;
    let count = (w.outputs - first).min(width);
    let mut taps = [[0f32; WIDEST]; TAPS];
    for (row, input) in inputs.enumerate() {
        for (lane, output) in (first..first + count).enumerate() {
            let at = &w.values[output * w.output_stride + input * w.input_stride..][..TAPS];
            for (t, value) in at.iter().enumerate() {
                taps[if w.turned { TAPS - 1 - t } else { t }][lane] = *value;
            }
        }
        // SAFETY: the buffer has room for all vectors; the caller's promise on `to`.
        unsafe {
            for v in 0..V {
                let mut kernel = [[L::splat(0.0); 3]; 3];
                for (r, line) in kernel.iter_mut().enumerate() {
                    for (c, value) in line.iter_mut().enumerate() {
                        *value = L::load(taps[r * 3 + c].as_ptr().add(v * L::N));
                    }
                }
                let square = both_ways::<L, Kernel, 3, 6>(kernel);
                for (position, value) in square.as_flattened().iter().enumerate() {
                    value.store(to.add(position * position_stride + row * width + v * L::N));
                }
            }
        }
    }
}
