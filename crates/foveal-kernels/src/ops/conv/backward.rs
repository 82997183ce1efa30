//! Gradients of the convolution.
use super::direct;
use super::geometry::Geometry;
use super::outer;
use super::packed::Packed;
use super::phases;
use super::spec::ConvSpec;
use super::winograd::{self, Weights};
use crate::cpu::CpuTensor;
use crate::cpu::matmul::Finish;
use crate::cpu::parallel::{map_planes, per_channel, sum};

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
            winograd::convolve_in_parts(dy, weights, Finish::default(), &maps)
        }
        None if g.is_pointwise() => pointwise(w, dy, g),
        None => phases::input_grad(w, dy, g),
    };
    T::from_shape(dx, spec.input_shape())
}

/// The input's gradient of a 1x1 convolution with stride 1: the output's gradient convolved with the transposed weight.
fn pointwise(w: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    let back = Geometry { in_channels: g.out_channels, out_channels: g.in_channels, ..*g };
    let weight = Packed::transposed(w, g, &[0]);
    direct::convolve(dy, &weight, Finish::default(), &back)
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
