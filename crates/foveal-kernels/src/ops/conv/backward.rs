//! Gradients of the convolution.
use rayon::prelude::*;

use super::direct;
use super::epilogue::SliceEpilogue;
use super::geometry::Geometry;
use super::outer;
use super::packed::{Packed, Weights};
use super::spec::ConvSpec;
use super::strided;
use super::winograd;
use crate::cpu::CpuTensor;
use crate::cpu::parallel::GRAIN;

/// Gradient of the input, from the gradient of the convolution's result (before the epilogue), which has the channels
/// last.
pub(super) fn input_grad<T: CpuTensor>(weight: T, grad: &T, spec: &ConvSpec) -> T {
    let weight = weight.contiguous();
    let (w, dy, g) = (weight.f32s(), grad.f32s(), &spec.geometry);
    let dx = match spec.winograd() {
        // The output's gradient convolved with the kernel, which is rotated by 180 degrees and has its channels
        // swapped.
        Some(maps) => {
            let weights = winograd::Weights {
                values: w,
                outputs: g.in_channels,
                inputs: g.out_channels,
                output_stride: g.taps(),
                input_stride: g.depth(),
                turned: true,
            };
            winograd::convolve(dy, weights, &SliceEpilogue::default(), &maps)
        }
        None if g.stride == 1 && g.padding < g.kernel => convolved(w, dy, g),
        None => strided::input_grad(w, dy, g),
    };
    T::from_shape(dx, spec.input_nhwc()).from_nhwc()
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
    let taps: Vec<usize> = (0..g.taps()).rev().collect();
    let weights = Weights {
        values: w,
        groups: g.groups,
        taps: &taps,
        channels: g.part_outputs(),
        columns: g.part_inputs(),
        group_stride: g.part_outputs() * g.depth(),
        channel_stride: g.depth(),
        column_stride: g.taps(),
    };
    direct::convolve(dy, &Packed::new(weights), &SliceEpilogue::default(), &back)
}

/// Gradient of the weight, from the gradient of the convolution's result (before the epilogue), which has the channels
/// last.
pub(super) fn weight_grad<T: CpuTensor>(x: T, grad: &T, spec: &ConvSpec) -> T {
    let (x, g) = (x.into_nhwc(), &spec.geometry);
    let dw = match spec.winograd() {
        Some(maps) => winograd::weight_grad(x.f32s(), grad.f32s(), g.in_channels, g.out_channels, &maps),
        None => outer::weight_grad(x.f32s(), grad.f32s(), g),
    };
    T::from_f32s(dw, g.weight_dims())
}

/// Multiplies each output channel's weights (or their gradient) by the channel's scale.
pub(super) fn scaled<T: CpuTensor>(weight: T, scale: &T) -> T {
    let (weight, scale) = (weight.contiguous(), scale.clone().contiguous());
    let (shape, w, scale) = (weight.shape(), weight.f32s(), scale.f32s());
    let depth = w.len() / scale.len().max(1);
    let mut out = w.to_vec();
    out.par_chunks_mut(depth.max(1))
        .with_min_len(GRAIN.div_ceil(depth.max(1)))
        .zip(scale)
        .for_each(|(row, scale)| row.iter_mut().for_each(|w| *w *= scale));
    T::from_shape(out, shape)
}
