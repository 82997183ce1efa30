//! Unfolding of the input: copying the values that each output pixel of a convolution reads.
use std::ops::Range;

use super::geometry::Geometry;

/// Writes the elements `range` of the values that one output pixel of one part reads to `to`. All of them are ordered by
/// kernel row, kernel column and channel.
///
/// `image` begins with the first channel of the part in the upper left pixel of its image; `[row, column]` is the output
/// pixel.
pub(super) fn unfold_pixel(
    g: &Geometry,
    image: &[f32],
    [row, column]: [usize; 2],
    range: Range<usize>,
    to: &mut [f32],
) {
    let inputs = g.part_inputs();
    let line = g.kernel * inputs;
    let mut at = range.start;
    let mut to = &mut to[..range.len()];
    while at < range.end {
        let (kh, first) = (at / line, at % line);
        let (part, rest) = to.split_at_mut((line - first).min(range.end - at));
        let len = part.len();
        match (row * g.stride + kh).checked_sub(g.padding).filter(|&r| r < g.height) {
            None => part.fill(0.0),
            Some(input_row) => {
                // The kernel columns that read inside the input.
                let start = column * g.stride;
                let lo = g.padding.saturating_sub(start).min(g.kernel);
                let hi = (g.width + g.padding).saturating_sub(start).clamp(lo, g.kernel);
                let [a, b] = [lo * inputs, hi * inputs].map(|at| at.clamp(first, first + len) - first);
                part[..a].fill(0.0);
                part[b..].fill(0.0);
                if a < b {
                    let pixel = |kw: usize| (input_row * g.width + start + kw - g.padding) * g.in_channels;
                    copy(g, image, pixel, first + a, &mut part[a..b]);
                }
            }
        }
        (to, at) = (rest, at + len);
    }
}

/// Copies the elements of a kernel row from `first` on. `pixel(kw)` is the place of the pixel that kernel column `kw`
/// reads.
fn copy(g: &Geometry, image: &[f32], pixel: impl Fn(usize) -> usize, first: usize, mut to: &mut [f32]) {
    let inputs = g.part_inputs();
    let (mut kw, mut channel) = (first / inputs, first % inputs);
    if g.groups == 1 {
        // The pixels of a kernel row are neighbours in memory.
        to.copy_from_slice(&image[pixel(kw) + channel..][..to.len()]);
        return;
    }
    while !to.is_empty() {
        let (part, rest) = to.split_at_mut((inputs - channel).min(to.len()));
        part.copy_from_slice(&image[pixel(kw) + channel..][..part.len()]);
        (to, kw, channel) = (rest, kw + 1, 0);
    }
}
