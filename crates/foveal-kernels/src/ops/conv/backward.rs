//! Gradients of the convolution.
use rayon::prelude::*;

use super::direct;
use super::epilogue::SliceEpilogue;
use super::geometry::Geometry;
use super::outer;
use super::packed::{Packed, Strided};
use super::spec::ConvSpec;
use super::unfold::{input_row, inside};
use super::winograd::{self, Weights};
use crate::cpu::CpuTensor;
use crate::cpu::matmul::{COLUMNS, DEPTH, Panels, Size, Target, multiply, put_row};
use crate::cpu::parallel::{GRAIN, map_planes, per_channel, sum};
use crate::cpu::scratch::Scratch;

/// Number of rows (input channels times taps) of the unfolded gradient that a task computes at a time.
const BLOCK_ROWS: usize = 256;
/// Number of output pixels (columns of the unfolded gradient) of a tile: with [`BLOCK_ROWS`] rows they take half a
/// megabyte.
const TILE_PIXELS: usize = 512;

/// Gradient of the input, from the gradient of the convolution's result (before the epilogue).
pub(super) fn input_grad<T: CpuTensor>(weight: T, grad: T, spec: &ConvSpec) -> T {
    let (weight, grad) = (weight.contiguous(), grad.contiguous());
    let (w, dy, g) = (weight.f32s(), grad.f32s(), &spec.geometry);
    let dx = match spec.winograd() {
        // The output's gradient convolved with the kernel, which is rotated by 180 degrees and has its channels
        // swapped.
        Some(maps) => {
            let weights = Weights {
                values: w,
                outputs: g.in_channels,
                inputs: g.out_channels,
                output_stride: g.taps(),
                input_stride: g.depth(),
                turned: true,
            };
            winograd::convolve_in_parts(dy, weights, SliceEpilogue::default(), &maps)
        }
        None if g.stride == 1 && g.padding < g.kernel => convolved(w, dy, g),
        None => scattered(w, dy, g),
    };
    T::from_shape(dx, spec.input_shape())
}

/// The input's gradient at stride 1: the output's gradient convolved with the weight, which is rotated by 180 degrees
/// and has its input and output channels swapped.
fn convolved(w: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let back = Geometry {
        in_channels: g.out_channels,
        out_channels: g.in_channels,
        height: g.out_height(),
        width: g.out_width(),
        padding: g.kernel - 1 - g.padding,
        ..*g
    };
    let (groups, rows, depth) = (back.groups, back.part_outputs(), back.depth());
    let group_stride = rows * depth;
    if g.kernel == 1 {
        let transposed =
            Strided { values: w, groups, rows, depth, group_stride, row_stride: 1, depth_stride: g.part_inputs() };
        return direct::convolve(dy, &Packed::new(transposed, Scratch::of), SliceEpilogue::default(), &back);
    }
    let (taps, outputs) = (g.taps(), g.part_outputs());
    let mut turned = vec![0.0; w.len()];
    turned.par_chunks_mut(depth.max(1)).with_min_len(GRAIN.div_ceil(depth.max(1))).enumerate().for_each(|(i, row)| {
        let (group, i) = (i / rows, i % rows);
        for (o, to) in row.chunks_exact_mut(taps).enumerate() {
            let from = &w[((group * outputs + o) * rows + i) * taps..][..taps];
            to.iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from);
        }
    });
    let turned = Strided { values: &turned, groups, rows, depth, group_stride, row_stride: depth, depth_stride: 1 };
    direct::convolve(dy, &Packed::new(turned, Scratch::of), SliceEpilogue::default(), &back)
}

/// The input's gradient at any stride and padding: the columns `weight^T * gradient`, folded back onto the input. A
/// task computes a block of one part's input channels, so that sums over overlapping windows always have the same
/// order.
fn scattered(w: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let (plane, depth, taps) = (g.out_plane(), g.depth(), g.taps());
    let (inputs, outputs) = (g.part_inputs(), g.part_outputs());
    assert_eq!(dy.len(), g.batch * g.out_channels * plane);
    assert_eq!(w.len(), g.out_channels * depth);
    let mut dx = vec![0.0; g.batch * g.in_channels * g.in_plane()];
    if dx.is_empty() || dy.is_empty() {
        return dx;
    }
    let block = (BLOCK_ROWS / taps).clamp(1, inputs);
    let weights: Vec<Packed> = (0..inputs)
        .step_by(block)
        .map(|first| {
            let matrices = Strided {
                values: &w[first * taps..],
                groups: g.groups,
                rows: block.min(inputs - first) * taps,
                depth: outputs,
                group_stride: outputs * depth,
                row_stride: 1,
                depth_stride: depth,
            };
            Packed::new(matrices, Scratch::of)
        })
        .collect();
    let tasks: Vec<(usize, &Packed, &mut [f32])> = dx
        .chunks_mut(inputs * g.in_plane())
        .enumerate()
        .flat_map(|(part, dx)| {
            let blocks = weights.iter().zip(dx.chunks_mut(block * g.in_plane()));
            blocks.map(move |(weight, dx)| (part, weight, dx))
        })
        .collect();
    tasks.into_par_iter().with_max_len(1).for_each(|(part, weight, dx)| {
        let dy = &dy[part * outputs * plane..][..outputs * plane];
        scatter(dy, |k| weight.from(g.group_of(part), 0, k), dx, g);
    });
    dx
}

/// Adds the gradient of some of a part's input channels to `dx [channels, height, width]`, from the part's output
/// gradient and the transposed weights of these channels; `weight(k)` returns the weights from output channel `k` on.
fn scatter<'a>(dy: &[f32], weight: impl Fn(usize) -> Panels<'a>, dx: &mut [f32], g: &Geometry) {
    let (plane, width, outputs) = (g.out_plane(), g.out_width(), g.part_outputs());
    let m = dx.len() / g.in_plane() * g.taps();
    let rows = (TILE_PIXELS / width).clamp(1, g.out_height());
    let most = rows * width;
    let panels = DEPTH.min(outputs) * most.next_multiple_of(COLUMNS);
    let mut buffer = Scratch::of(panels + m * most);
    let (right, columns) = buffer.split_at_mut(panels);
    for first in (0..g.out_height()).step_by(rows) {
        let last = (first + rows).min(g.out_height());
        let pixels = (last - first) * width;
        for k in (0..outputs).step_by(DEPTH) {
            let depth = (outputs - k).min(DEPTH);
            for i in 0..depth {
                put_row(right, depth, i, &dy[(k + i) * plane + first * width..][..pixels]);
            }
            let size = Size { rows: m, columns: pixels, depth };
            let b = Panels { data: right, stride: depth * COLUMNS };
            let c = Target::new(columns, pixels, COLUMNS);
            // SAFETY: the operands have whole panels of depth `depth`; only this task accesses its columns
            // `[m, pixels]`.
            unsafe { multiply(size, weight(k), b, c, k > 0) };
        }
        fold(g, &columns[..m * pixels], first..last, dx);
    }
}

/// Adds the unfolded `columns [channels * taps, pixels]` of the output rows `rows` to
/// `planes [channels, height, width]`.
fn fold(g: &Geometry, columns: &[f32], rows: std::ops::Range<usize>, planes: &mut [f32]) {
    let width = g.out_width();
    let mut columns = columns.chunks_exact(rows.len() * width);
    for plane in planes.chunks_exact_mut(g.in_plane()) {
        for kh in 0..g.kernel {
            for kw in 0..g.kernel {
                let column = columns.next().expect("one column per channel and tap");
                let (lo, hi) = inside(g, kw);
                if hi == lo {
                    continue;
                }
                for (row, from) in rows.clone().zip(column.chunks_exact(width)) {
                    let Some(to) = input_row(g, row, kh) else { continue };
                    let to = &mut plane[to * g.width + lo * g.stride + kw - g.padding..(to + 1) * g.width];
                    for (to, from) in to.iter_mut().step_by(g.stride).zip(&from[lo..hi]) {
                        *to += from;
                    }
                }
            }
        }
    }
}

/// Gradient of the weight, from the gradient of the convolution's result (before the epilogue).
pub(super) fn weight_grad<T: CpuTensor>(x: T, grad: T, spec: &ConvSpec) -> T {
    let (x, grad, g) = (x.contiguous(), grad.contiguous(), &spec.geometry);
    let dw = match spec.winograd() {
        Some(maps) => winograd::weight_grad(x.f32s(), grad.f32s(), g.in_channels, g.out_channels, &maps),
        None => outer::weight_grad(x.f32s(), grad.f32s(), g),
    };
    T::from_f32s(dw, g.weight_dims())
}

/// Gradient of the shift: the sum of the output's gradient over images and pixels.
pub(super) fn shift_grad<T: CpuTensor>(grad: &T, spec: &ConvSpec) -> T {
    let (dy, g, pixels) = (grad.f32s(), &spec.geometry, spec.out_pixels());
    let sums = per_channel(g.batch, g.out_channels, pixels, |i| sum(&dy[i * pixels..][..pixels]));
    T::from_f32s(sums, [g.out_channels])
}

/// Multiplies each output channel's weights (or their gradient) by the channel's scale.
pub(super) fn scaled<T: CpuTensor>(weight: T, scale: &T) -> T {
    let scale = scale.clone().contiguous();
    let (scale, len) = (scale.f32s(), weight.shape().num_elements());
    let depth = (len / scale.len().max(1)).max(1);
    map_planes(weight, depth, |channel, row| row.iter_mut().for_each(|w| *w *= scale[channel]))
}
