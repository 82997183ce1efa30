//! The transform of the weights.
use rayon::prelude::*;

use super::transform::{Kernel, POSITIONS, both_ways};
use crate::cpu::matmul::isa::on_best_isa;
use crate::cpu::matmul::lanes::Lanes;
use crate::cpu::matmul::{COLUMNS, Panels, ROWS};
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

/// The transformed weights: for each position a left operand `[outputs, inputs]`, packed into panels.
pub(super) struct Transformed {
    buffer: Scratch,
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
        let panel_stride = w.inputs * ROWS;
        let panels = w.outputs.div_ceil(ROWS);
        let position_stride = panels * panel_stride + COLUMNS;
        let mut buffer = Scratch::of(POSITIONS * position_stride);
        let to = SharedMut::new(&mut buffer);
        (0..panels).into_par_iter().for_each(|panel| {
            // SAFETY: the address is that of the panel at position 0; only this task accesses this panel, at all
            // positions.
            unsafe { transform(&w, panel * ROWS, to.at(panel * panel_stride), position_stride) };
        });
        Self { buffer, panel_stride, position_stride }
    }

    /// The left operand for a position.
    pub(super) fn panels(&self, position: usize) -> Panels<'_> {
        Panels { data: &self.buffer[position * self.position_stride..], stride: self.panel_stride }
    }
}

on_best_isa! {
    /// Transforms the weights of output channels `first..first + ROWS`; channels beyond the last give zeros.
    ///
    /// # Safety
    /// `[POSITIONS, inputs, ROWS]` must be writable at `to`, positions `position_stride` apart.
    unsafe fn transform(w: &Weights<'_>, first: usize, to: *mut f32, position_stride: usize) = transform_on
}

/// Number of input channels that are transformed at a time.
const INPUTS: usize = 8;
/// Number of kernels that are transformed at a time, in the order of the result: a whole number of vectors.
const KERNELS: usize = INPUTS * ROWS;

#[inline(always)]
unsafe fn transform_on<L: Lanes, const V: usize, const WIDE: usize>(
    w: &Weights<'_>,
    first: usize,
    to: *mut f32,
    position_stride: usize,
) {
    const { assert!(KERNELS.is_multiple_of(L::N)) };
    let rows = (w.outputs - first).min(ROWS);
    let mut taps = [[0f32; KERNELS]; TAPS];
    let mut rest = [[0f32; KERNELS]; POSITIONS];
    for input in (0..w.inputs).step_by(INPUTS) {
        let inputs = (w.inputs - input).min(INPUTS);
        for (i, lane) in (0..inputs).flat_map(|i| (0..rows).map(move |lane| (i, lane))) {
            let at = &w.values[(first + lane) * w.output_stride + (input + i) * w.input_stride..][..TAPS];
            for (t, value) in at.iter().enumerate() {
                taps[if w.turned { TAPS - 1 - t } else { t }][i * ROWS + lane] = *value;
            }
        }
        let whole = inputs == INPUTS;
        // SAFETY: the buffers have room for all vectors; the caller's promise on `to`.
        unsafe {
            for at in (0..KERNELS).step_by(L::N) {
                let mut kernel = [[L::splat(0.0); 3]; 3];
                for (r, row) in kernel.iter_mut().enumerate() {
                    for (c, value) in row.iter_mut().enumerate() {
                        *value = L::load(taps[r * 3 + c].as_ptr().add(at));
                    }
                }
                let square = both_ways::<L, Kernel, 3, 6>(kernel);
                for (position, value) in square.as_flattened().iter().enumerate() {
                    if whole {
                        value.store(to.add(position * position_stride + input * ROWS + at));
                    } else {
                        value.store(rest[position].as_mut_ptr().add(at));
                    }
                }
            }
            if !whole {
                for (position, rest) in rest.iter().enumerate() {
                    let to = to.add(position * position_stride + input * ROWS);
                    std::ptr::copy_nonoverlapping(rest.as_ptr(), to, inputs * ROWS);
                }
            }
        }
    }
}
