//! The division of a direct convolution, or of its input gradient, into tasks.
use std::ops::Range;

use crate::cpu::matmul::ROWS;

/// Approximate number of pixels of a task: with [`DEPTH`](crate::cpu::matmul::DEPTH) rows its unfolded input takes a
/// quarter of a megabyte.
const PIXELS: usize = 256;

/// A task: a range of places and a range of channels of a part of the result.
pub(super) struct Task {
    pub(super) part: usize,
    pub(super) places: Range<usize>,
    pub(super) channels: Range<usize>,
}

/// Divides `parts` parts of `length` places (pixels, or rows of them) and `channels` channels into tasks. The places of
/// a task begin at a multiple of `unit`. A part has `pixels` pixels.
///
/// The result of a pixel does not depend on its task, so the division may depend on the number of threads: every thread
/// gets the same number of tasks, and channels are divided only if there are too few places.
pub(super) fn tasks(parts: usize, [length, unit]: [usize; 2], pixels: usize, channels: usize) -> Vec<Task> {
    let threads = rayon::current_num_threads();
    let units = length.div_ceil(unit);
    let wanted = (parts * pixels).div_ceil(PIXELS).next_multiple_of(threads);
    let stretches = wanted.div_ceil(parts).min(units);
    let panels = channels.div_ceil(ROWS);
    let splits = threads.div_ceil(parts * stretches).min(panels);
    let mut tasks = Vec::with_capacity(parts * stretches * splits);
    for part in 0..parts {
        for stretch in 0..stretches {
            let [first, last] = [stretch, stretch + 1].map(|s| (s * units / stretches * unit).min(length));
            for split in 0..splits {
                let [row, last_row] = [split, split + 1].map(|s| (s * panels / splits * ROWS).min(channels));
                tasks.push(Task { part, places: first..last, channels: row..last_row });
            }
        }
    }
    tasks
}
