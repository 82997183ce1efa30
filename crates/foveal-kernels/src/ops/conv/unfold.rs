//! Unfolding of the input: copying the values that each output pixel of a convolution reads.
use super::geometry::Geometry;
use crate::cpu::compiled::{Work, compiled};

/// The range `lo..hi` of output columns for which kernel column `kw` reads inside the input.
pub(super) fn inside(g: &Geometry, kw: usize) -> (usize, usize) {
    let width = g.out_width();
    let lo = g.padding.saturating_sub(kw).div_ceil(g.stride).min(width);
    let hi = (g.width + g.padding).saturating_sub(kw).div_ceil(g.stride).min(width).max(lo);
    (lo, hi)
}

/// The input row that output row `row` reads at kernel row `kh`; `None` in the padding.
pub(super) fn input_row(g: &Geometry, row: usize, kh: usize) -> Option<usize> {
    (row * g.stride + kh).checked_sub(g.padding).filter(|&r| r < g.height)
}

/// Writes row `k` (of channels times taps) of one part's unfolded input to `to`, for the `to.len()` output pixels from
/// `first` on.
pub(super) fn unfold_row(g: &Geometry, image: &[f32], k: usize, first: usize, to: &mut [f32]) {
    compiled(Unfold { g, image, k, first, to });
}

/// The work of [`unfold_row`].
struct Unfold<'a> {
    g: &'a Geometry,
    image: &'a [f32],
    k: usize,
    first: usize,
    to: &'a mut [f32],
}

impl Work for Unfold<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { g, image, k, first, mut to } = self;
        let (width, tap) = (g.out_width(), k % g.taps());
        let (kh, kw) = (tap / g.kernel, tap % g.kernel);
        let plane = &image[k / g.taps() * g.in_plane()..][..g.in_plane()];
        let (lo, hi) = inside(g, kw);
        let (mut row, mut column) = (first / width, first % width);
        while !to.is_empty() {
            let (part, rest) = to.split_at_mut((width - column).min(to.len()));
            // The output columns of this row's part that read inside the input.
            let (a, b) = (lo.max(column), hi.min(column + part.len()));
            match input_row(g, row, kh).filter(|_| a < b) {
                None => part.fill(0.0),
                Some(from) => {
                    part[..a - column].fill(0.0);
                    part[b - column..].fill(0.0);
                    let from = &plane[from * g.width + a * g.stride + kw - g.padding..(from + 1) * g.width];
                    gather(&mut part[a - column..b - column], from, g.stride);
                }
            }
            (to, row, column) = (rest, row + 1, 0);
        }
    }
}

/// Copies with a stride: `to[i] = from[i * stride]`.
#[inline(always)]
fn gather(to: &mut [f32], from: &[f32], stride: usize) {
    match stride {
        1 => to.copy_from_slice(&from[..to.len()]),
        2 => {
            // The loop over pairs vectorises; the last element may not have a second one.
            let (last, pairs) = to.split_last_mut().expect("at least one element");
            *last = from[2 * pairs.len()];
            for (to, from) in pairs.iter_mut().zip(from.chunks_exact(2)) {
                *to = from[0];
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(stride)) {
                *to = *from;
            }
        }
    }
}
