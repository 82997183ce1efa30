//! The convolution itself: tiles in parallel, one matrix product for each tile and block of channels.
use rayon::prelude::*;

use super::geometry::Geometry;
use super::tile::{Matrix, Tile, block_channels, product, tiles, unfold};
use crate::cpu::CpuTensor;
use crate::parallel::SharedMut;

/// Weights `[out_channels, in_channels * taps]` with any strides.
#[derive(Clone, Copy)]
pub(super) struct Weight<'a> {
    pub(super) values: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

/// The convolution of `x` by `weight`, plus `bias`.
pub(super) fn forward<T: CpuTensor>(x: T, weight: T, bias: Option<T>, g: &Geometry) -> T {
    let (x, weight, bias) = (x.contiguous(), weight.contiguous(), bias.map(T::contiguous));
    let weight = Weight { values: weight.f32s(), row_stride: g.depth(), column_stride: 1 };
    T::from_f32s(convolve(x.f32s(), weight, bias.as_ref().map(T::f32s), g), g.output_dims())
}

/// The same on slices.
pub(super) fn convolve(x: &[f32], weight: Weight, bias: Option<&[f32]>, g: &Geometry) -> Vec<f32> {
    let (plane, width, depth) = (g.out_plane(), g.out_width(), g.depth());
    let image_len = g.in_channels * g.in_plane();
    // `product` reads through pointers: what it will read and write is checked here.
    assert_eq!(x.len(), g.batch * image_len);
    assert_eq!(weight.values.len(), g.out_channels * depth);
    assert!(bias.is_none_or(|b| b.len() == g.out_channels));
    let len = g.batch * g.out_channels * plane;
    if depth == 0 || len == 0 {
        return vec![0.0; len];
    }
    let mut y: Vec<f32> = Vec::with_capacity(len);
    let out = SharedMut::new(y.as_mut_ptr());
    let block = if g.is_pointwise() { g.in_channels } else { block_channels(g) };
    tiles(g).into_par_iter().for_each_init(Vec::new, |columns: &mut Vec<f32>, Tile { image, first, last }| {
        let pixels = (last - first) * width;
        let input = &x[image * image_len..][..image_len];
        // SAFETY: the tile's first pixel lies within the buffer.
        let c = unsafe { out.at(image * g.out_channels * plane + first * width) };
        for (o, &b) in bias.iter().flat_map(|b| b.iter().enumerate()) {
            // SAFETY: row `o` of this tile, which no other task touches; `write` needs no initialised memory.
            (0..pixels).for_each(|i| unsafe { c.add(o * plane + i).write(b) });
        }
        for c0 in (0..g.in_channels).step_by(block) {
            let c1 = (c0 + block).min(g.in_channels);
            let k = (c1 - c0) * g.taps();
            let b = if g.is_pointwise() {
                Matrix { data: input[c0 * plane + first * width..].as_ptr(), row_stride: plane, column_stride: 1 }
            } else {
                columns.resize(block * g.taps() * pixels, 0.0);
                unfold(g, input, c0..c1, first..last, &mut columns[..k * pixels]);
                Matrix { data: columns.as_ptr(), row_stride: pixels, column_stride: 1 }
            };
            let a = Matrix {
                data: weight.values[c0 * g.taps() * weight.column_stride..].as_ptr(),
                row_stride: weight.row_stride,
                column_stride: weight.column_stride,
            };
            // SAFETY: a is `[out_channels, k]` within the weights, b `[k, pixels]` within the columns (or the input,
            // whose rows are `plane` apart), c this tile's part of the output, which no other task touches and which
            // is initialised by the bias or the first block before it is accumulated on.
            unsafe { product([g.out_channels, pixels, k], a, b, c, plane, bias.is_some() || c0 > 0) };
        }
    });
    // SAFETY: the tiles cover every row of every image, and each product wrote all output channels of its tile.
    unsafe { y.set_len(len) };
    y
}
