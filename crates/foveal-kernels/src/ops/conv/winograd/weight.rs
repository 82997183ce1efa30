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
    pub(super) values: &'a [f32],
    /// Number of output channels.
    pub(super) outputs: usize,
    /// Number of input channels.
    pub(super) inputs: usize,
    /// Number of elements from an output channel to the next.
    pub(super) output_stride: usize,
    /// Number of elements from an input channel to the next.
    pub(super) input_stride: usize,
    /// Whether the kernel is rotated by 180 degrees.
    pub(super) turned: bool,
    /// Factor of each input channel's weights, or `None` for 1.
    pub(super) input_scale: Option<&'a [f32]>,
}

impl<'a> Weights<'a> {
    /// The weights `[outputs, inputs, 3, 3]` of a convolution.
    pub(crate) fn new(values: &'a [f32], [outputs, inputs]: [usize; 2]) -> Self {
        let (output_stride, input_stride) = (inputs * TAPS, TAPS);
        Self { values, outputs, inputs, output_stride, input_stride, turned: false, input_scale: None }
    }

    /// The weights by which the gradient of the input is computed as a convolution of the output's gradient. `values`
    /// are the weights `[outputs, inputs, 3, 3]` of the convolution, and `scale` is the factor of each of its outputs.
    pub(crate) fn transposed(values: &'a [f32], dims: [usize; 2], scale: Option<&'a [f32]>) -> Self {
        let Self { outputs, inputs, output_stride, input_stride, .. } = Self::new(values, dims);
        Self {
            values,
            outputs: inputs,
            inputs: outputs,
            output_stride: input_stride,
            input_stride: output_stride,
            turned: true,
            input_scale: scale,
        }
    }
}

/// Number of taps of a 3x3 kernel.
const TAPS: usize = 9;
/// Number of lines that [`Lanes::transpose`] reads.
const EIGHT: usize = 8;
/// Number of input channels that are transformed together. So many channels of [`ROWS`] outputs fill whole vectors.
const INPUTS: usize = 8;
/// Number of elements of a line of taps.
const LINE: usize = 64;
/// Largest number of elements of transformed weights that are written through the caches. More would leave the caches
/// before they are multiplied.
const CACHED: usize = 1 << 20;

/// The transformed weights: for each position a left operand `[outputs, inputs]`, packed into panels.
pub(crate) struct Transformed {
    buffer: Scratch,
    /// Index of the first element in the buffer, which is aligned to a cache line.
    start: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    panel_stride: usize,
    position_stride: usize,
}

impl Transformed {
    /// Transforms weights into a buffer that `buffer` makes for a length.
    pub(crate) fn new(w: Weights, buffer: fn(usize) -> Scratch) -> Self {
        assert!(
            w.outputs * w.inputs == 0 || {
                let last = (w.outputs - 1) * w.output_stride + (w.inputs - 1) * w.input_stride;
                last + TAPS <= w.values.len()
            }
        );
        let panel_stride = w.inputs * ROWS;
        let panels = w.outputs.div_ceil(ROWS);
        let position_stride = panels * panel_stride + COLUMNS;
        let len = POSITIONS * position_stride;
        let mut buffer = buffer(len + COLUMNS);
        let start = buffer.as_ptr().align_offset(size_of::<[f32; COLUMNS]>()).min(COLUMNS);
        let to = SharedMut::new(&mut buffer[start..]);
        (0..panels).into_par_iter().for_each(|panel| {
            // SAFETY: the address is that of the panel at position 0; only this task accesses this panel, at all
            // positions.
            unsafe { transform(&w, panel * ROWS, to.at(panel * panel_stride), position_stride, len > CACHED) };
        });
        Self { buffer, start, inputs: w.inputs, outputs: w.outputs, panel_stride, position_stride }
    }

    /// The left operand for a position, from output channel `row` (a multiple of [`ROWS`]) and input channel `input`
    /// on.
    pub(super) fn panels(&self, position: usize, row: usize, input: usize) -> Panels<'_> {
        let at = self.start + position * self.position_stride + row / ROWS * self.panel_stride + input * ROWS;
        Panels { data: &self.buffer[at..], stride: self.panel_stride }
    }
}

on_best_isa! {
    /// Transforms the weights of output channels `first..first + ROWS`; channels beyond the last give zeros. With
    /// `past_caches`, whole cache lines of the result are written past the caches.
    ///
    /// # Safety
    /// `[POSITIONS, inputs, ROWS]` must be writable at `to`, positions `position_stride` apart.
    unsafe fn transform(
        w: &Weights<'_>, first: usize, to: *mut f32, position_stride: usize, past_caches: bool,
    ) = transform_on
}

#[inline(always)]
unsafe fn transform_on<L: Lanes, const V: usize, const WIDE: usize>(
    w: &Weights<'_>,
    first: usize,
    to: *mut f32,
    position_stride: usize,
    past_caches: bool,
) {
    let rows = (w.outputs - first).min(ROWS);
    let zeros = [0f32; EIGHT];
    // Row `t` holds tap `t` of all outputs of the first input, then of the second. Transpositions write whole groups of
    // eight, whose last two elements the next group overwrites.
    let mut taps = [[0f32; LINE]; TAPS];
    // The factor of each element of a line.
    let mut factors = [1f32; LINE];
    let mut lines = [[0f32; COLUMNS]; POSITIONS];
    for input in (0..w.inputs).step_by(INPUTS) {
        let inputs = (w.inputs - input).min(INPUTS);
        for i in 0..inputs {
            if let Some(scale) = w.input_scale {
                factors[i * ROWS..(i + 1) * ROWS].fill(scale[input + i]);
            }
            let kernels: [&[f32]; EIGHT] = std::array::from_fn(|lane| {
                let at = (first + lane) * w.output_stride + (input + i) * w.input_stride;
                if lane < rows { &w.values[at..at + TAPS] } else { &zeros }
            });
            // SAFETY: eight elements can be read at each kernel, and a line has room for eight elements at any input.
            unsafe {
                let to = taps.as_mut_ptr().cast::<f32>().add(i * ROWS);
                L::transpose::<EIGHT>(&kernels.map(<[f32]>::as_ptr), to, LINE);
            }
            for lane in 0..ROWS {
                taps[TAPS - 1][i * ROWS + lane] = if lane < rows { kernels[lane][TAPS - 1] } else { 0.0 };
            }
        }
        for at in (0..inputs * ROWS).step_by(COLUMNS) {
            let valid = (inputs * ROWS - at).min(COLUMNS);
            // SAFETY: the lines have room for all vectors; the caller's promise on `to`, of which only the elements of
            // these inputs are written.
            unsafe {
                for v in 0..V {
                    let factor = L::load(factors.as_ptr().add(at + v * L::N));
                    let mut kernel = [[L::splat(0.0); 3]; 3];
                    for (t, value) in kernel.as_flattened_mut().iter_mut().enumerate() {
                        let tap = if w.turned { TAPS - 1 - t } else { t };
                        *value = L::load(taps[tap].as_ptr().add(at + v * L::N)).mul(factor);
                    }
                    let square = both_ways::<L, Kernel, 3, 6>(kernel);
                    for (line, value) in lines.iter_mut().zip(square.as_flattened()) {
                        value.store(line.as_mut_ptr().add(v * L::N));
                    }
                }
                for (position, line) in lines.iter().enumerate() {
                    let to = to.add(position * position_stride + input * ROWS + at);
                    if past_caches && valid == COLUMNS && to.addr().is_multiple_of(size_of_val(line)) {
                        L::stream(line, to);
                    } else {
                        std::ptr::copy_nonoverlapping(line.as_ptr(), to, valid);
                    }
                }
            }
        }
    }
    L::fence();
}
