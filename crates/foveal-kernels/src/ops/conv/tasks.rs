//! The division of a direct convolution, or of its input gradient, into tasks.
use std::ops::Range;

use crate::cpu::matmul::ROWS;

/// Approximate number of pixels of a task: with [`DEPTH`](crate::cpu::matmul::DEPTH) rows its unfolded input takes a
/// quarter of a megabyte.
const PIXELS: usize = 256;

/// A task: a range of places and a range of channels of a part of the result.
pub(super) struct Task {
    /// Index of the part: a group of channels of an image.
    pub(super) part: usize,
    /// The places of the part, see [`Places`].
    pub(super) places: Range<usize>,
    /// The channels of the part.
    pub(super) channels: Range<usize>,
}

/// The places that a part of the result is divided at: pixels, or rows of pixels.
pub(super) struct Places {
    /// Number of places of a part.
    pub(super) count: usize,
    /// The places of a task begin at a multiple of this number.
    pub(super) unit: usize,
    /// Number of pixels of a place.
    pub(super) pixels: usize,
}

/// Divides `parts` parts of `channels` channels into tasks.
///
/// The result of a pixel does not depend on its task, so the division may depend on the number of threads. The number
/// of tasks is a multiple of the number of threads where the parts allow it, and channels are divided only if there are
/// too few places.
pub(super) fn tasks(parts: usize, places: Places, channels: usize) -> Vec<Task> {
    let Places { count, unit, pixels } = places;
    let threads = rayon::current_num_threads();
    let units = count.div_ceil(unit);
    let wanted = (parts * count * pixels).div_ceil(PIXELS).next_multiple_of(threads);
    let stretches = wanted.div_ceil(parts).min(units);
    let panels = channels.div_ceil(ROWS);
    let splits = threads.div_ceil(parts * stretches).min(panels);
    let mut tasks = Vec::with_capacity(parts * stretches * splits);
    for part in 0..parts {
        for stretch in 0..stretches {
            let [first, last] = [stretch, stretch + 1].map(|s| (s * units / stretches * unit).min(count));
            for split in 0..splits {
                let [row, last_row] = [split, split + 1].map(|s| (s * panels / splits * ROWS).min(channels));
                tasks.push(Task { part, places: first..last, channels: row..last_row });
            }
        }
    }
    tasks
}
