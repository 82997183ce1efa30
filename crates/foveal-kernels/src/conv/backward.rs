//! Gradients of the convolution.
use rayon::prelude::*;

use super::forward::{Weight, convolve};
use super::geometry::Geometry;
use super::tile::{Matrix, Tile, block_channels, input_row, inside, product, tiles, unfold};
use crate::cpu::CpuTensor;
use crate::parallel::{GRAIN, SharedMut, per_channel, sum};

/// Tasks to aim for in the weight gradient; fixed, so that results do not depend on the number of threads.
const WEIGHT_TASKS: usize = 16;

/// Gradient to the input, given the gradient to the output.
pub(super) fn input_grad<T: CpuTensor>(weight: T, grad: T, g: &Geometry) -> T {
    let (weight, grad) = (weight.contiguous(), grad.contiguous());
    let (w, dy) = (weight.f32s(), grad.f32s());
    let dx = if g.stride == 1 && g.padding < g.kernel { convolved(w, dy, g) } else { scattered(w, dy, g) };
    T::from_f32s(dx, g.input_dims())
}

/// At stride 1: the gradient map convolved with the weight turned by half a turn, channels swapped.
fn convolved(w: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let back = Geometry {
        in_channels: g.out_channels,
        out_channels: g.in_channels,
        height: g.out_height(),
        width: g.out_width(),
        padding: g.kernel - 1 - g.padding,
        ..*g
    };
    if g.kernel == 1 {
        let transposed = Weight { values: w, row_stride: 1, column_stride: g.in_channels };
        return convolve(dy, transposed, None, &back);
    }
    let taps = g.taps();
    let mut turned = vec![0.0; w.len()];
    turned.par_chunks_mut(back.depth().max(1)).with_min_len(GRAIN.div_ceil(back.depth().max(1))).enumerate().for_each(
        |(i, row)| {
            for (o, to) in row.chunks_exact_mut(taps).enumerate() {
                let from = &w[(o * g.in_channels + i) * taps..][..taps];
                to.iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from);
            }
        },
    );
    convolve(dy, Weight { values: &turned, row_stride: back.depth(), column_stride: 1 }, None, &back)
}

/// Any stride and padding: columns = weight^T * gradient, folded back onto the input. A task owns a block of one
/// image's input channels, so that its sums over overlapping windows have one order.
fn scattered(w: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let (plane, width, depth, taps) = (g.out_plane(), g.out_width(), g.depth(), g.taps());
    assert_eq!(dy.len(), g.batch * g.out_channels * plane);
    assert_eq!(w.len(), g.out_channels * depth);
    let mut dx = vec![0.0; g.batch * g.in_channels * g.in_plane()];
    if dx.is_empty() || dy.is_empty() {
        return dx;
    }
    let block = block_channels(g);
    let image_tiles = tiles(&Geometry { batch: 1, ..*g });
    let blocks: Vec<(usize, &mut [f32])> = dx
        .chunks_mut(g.in_channels * g.in_plane())
        .enumerate()
        .flat_map(|(image, dx)| dx.chunks_mut(block * g.in_plane()).map(move |dx| (image, dx)))
        .collect();
    let blocks_of_image = g.in_channels.div_ceil(block);
    blocks.into_par_iter().enumerate().for_each_init(Vec::new, |columns: &mut Vec<f32>, (index, (image, dx))| {
        let c0 = index % blocks_of_image * block;
        let channels = dx.len() / g.in_plane();
        let m = channels * taps;
        for &Tile { first, last, .. } in &image_tiles {
            let pixels = (last - first) * width;
            columns.resize(m * pixels, 0.0);
            let a = Matrix { data: w[c0 * taps..].as_ptr(), row_stride: 1, column_stride: depth };
            let dy = &dy[image * g.out_channels * plane + first * width..];
            let b = Matrix { data: dy.as_ptr(), row_stride: plane, column_stride: 1 };
            // SAFETY: a is `[m, out_channels]`, rows `c0 * taps..` of the transposed weight; b `[out_channels, pixels]`
            // of this image's gradient; the columns are this task's own `[m, pixels]`.
            unsafe { product([m, pixels, g.out_channels], a, b, columns.as_mut_ptr(), pixels, false) };
            fold(g, &columns[..m * pixels], first..last, dx);
        }
    });
    dx
}

/// Adds unfolded `columns [channels * taps, pixels]` of the output rows `rows` onto `planes [channels, height, width]`.
fn fold(g: &Geometry, columns: &[f32], rows: std::ops::Range<usize>, planes: &mut [f32]) {
    let width = g.out_width();
    let mut columns = columns.chunks_exact(rows.len() * width);
    for plane in planes.chunks_exact_mut(g.in_plane()) {
        for kh in 0..g.kernel {
            for kw in 0..g.kernel {
                let column = columns.next().expect("one piece for each channel and tap");
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

/// Gradient to the weight. A task owns a block of input channels, and, where there are few of those, a run of the
/// tiles, whose partial sums are then added in order.
pub(super) fn weight_grad<T: CpuTensor>(x: T, grad: T, g: &Geometry) -> T {
    let (x, grad) = (x.contiguous(), grad.contiguous());
    let (x, dy) = (x.f32s(), grad.f32s());
    let (plane, width, depth) = (g.out_plane(), g.out_width(), g.depth());
    let image_len = g.in_channels * g.in_plane();
    assert_eq!(x.len(), g.batch * image_len);
    assert_eq!(dy.len(), g.batch * g.out_channels * plane);
    let len = g.out_channels * depth;
    if len == 0 || dy.is_empty() {
        return T::from_f32s(vec![0.0; len], g.weight_dims());
    }
    let (block, tiles) = (block_channels(g), tiles(g));
    let blocks = g.in_channels.div_ceil(block);
    let runs = WEIGHT_TASKS.div_ceil(blocks).min(tiles.len());
    let per_run = tiles.len().div_ceil(runs);
    let runs = tiles.len().div_ceil(per_run);

    let mut parts = vec![0.0; runs * len];
    let out = SharedMut::new(parts.as_mut_ptr());
    (0..runs * blocks).into_par_iter().for_each_init(Vec::new, |columns: &mut Vec<f32>, task| {
        let (run, c0) = (task / blocks, task % blocks * block);
        let c1 = (c0 + block).min(g.in_channels);
        let n = (c1 - c0) * g.taps();
        // SAFETY: the first element of this task's columns in its run's part.
        let c = unsafe { out.at(run * len + c0 * g.taps()) };
        for &Tile { image, first, last } in tiles.chunks(per_run).nth(run).into_iter().flatten() {
            let pixels = (last - first) * width;
            let input = &x[image * image_len..][..image_len];
            let b = if g.is_pointwise() {
                Matrix { data: input[c0 * plane + first * width..].as_ptr(), row_stride: 1, column_stride: plane }
            } else {
                columns.resize(n * pixels, 0.0);
                unfold(g, input, c0..c1, first..last, &mut columns[..n * pixels]);
                Matrix { data: columns.as_ptr(), row_stride: 1, column_stride: pixels }
            };
            let a = Matrix {
                data: dy[image * g.out_channels * plane + first * width..].as_ptr(),
                row_stride: plane,
                column_stride: 1,
            };
            // SAFETY: a is `[out_channels, pixels]` of this image's gradient, b the transposed columns `[pixels, n]`
            // (or input), c `[out_channels, n]` of this run's zeroed part, columns that no other task touches.
            unsafe { product([g.out_channels, n, pixels], a, b, c, depth, true) };
        }
    });
    let (total, rest) = parts.split_at_mut(len);
    total.par_chunks_mut(GRAIN).enumerate().for_each(|(i, total)| {
        for part in rest.chunks_exact(len) {
            total.iter_mut().zip(&part[i * GRAIN..]).for_each(|(total, part)| *total += part);
        }
    });
    parts.truncate(len);
    T::from_f32s(parts, g.weight_dims())
}

/// Gradient to the bias: the sum over images and pixels.
pub(super) fn bias_grad<T: CpuTensor>(grad: T, g: &Geometry) -> T {
    let grad = grad.contiguous();
    let (dy, plane) = (grad.f32s(), g.out_plane());
    let sums = per_channel(g.batch, g.out_channels, plane, |i| sum(&dy[i * plane..][..plane]));
    T::from_f32s(sums, [g.out_channels])
}
