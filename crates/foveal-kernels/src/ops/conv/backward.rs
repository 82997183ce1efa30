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
use crate::cpu::parallel::{per_channel, sum};

/// Gradient of the input. `scale` has the factor of each output channel, and `grad` is the gradient of the result
/// before the activation.
pub(super) fn input_grad<T: CpuTensor>(weight: T, scale: Option<&T>, grad: T, spec: &ConvSpec) -> T {
    let (weight, scale, grad) = (weight.contiguous(), scale.cloned().map(T::contiguous), grad.contiguous());
    let (w, scale, dy, g) = (weight.f32s(), scale.as_ref().map(T::f32s), grad.f32s(), &spec.geometry);
    let dx = match spec.winograd() {
        Some(maps) => {
            let weights = Weights::transposed(w, [g.out_channels, g.in_channels], scale);
            winograd::convolve_in_parts(dy, weights, Finish::default(), &maps)
        }
        None if g.is_pointwise() => pointwise(w, scale, dy, g),
        None => phases::input_grad(w, scale, dy, g),
    };
    T::from_shape(dx, spec.input_shape())
}

/// The input's gradient of a 1x1 convolution with stride 1: the output's gradient convolved with the transposed weight.
fn pointwise(w: &[f32], scale: Option<&[f32]>, dy: &[f32], g: &Geometry) -> Vec<f32> {
    let back = Geometry { in_channels: g.out_channels, out_channels: g.in_channels, ..*g };
    let weight = Packed::transposed(w, scale, g, &[0]);
    direct::convolve(dy, &weight, Finish::default(), &back)
}

/// Gradient of the weight. `scale` has the factor of each output channel, and `grad` is the gradient of the result
/// before the activation.
pub(super) fn weight_grad<T: CpuTensor>(x: T, scale: Option<&T>, grad: T, spec: &ConvSpec) -> T {
    let (x, scale, grad) = (x.contiguous(), scale.cloned().map(T::contiguous), grad.contiguous());
    let (x, scale, dy, g) = (x.f32s(), scale.as_ref().map(T::f32s), grad.f32s(), &spec.geometry);
    let dw = match spec.winograd() {
        Some(maps) => winograd::weight_grad(x, dy, scale, [g.in_channels, g.out_channels], &maps),
        None => outer::weight_grad(x, dy, scale, g),
    };
    T::from_f32s(dw, g.weight_dims())
}

/// Gradient of the shift: the sum of the output's gradient over images and pixels.
pub(super) fn shift_grad<T: CpuTensor>(grad: &T, spec: &ConvSpec) -> T {
    let (dy, g, pixels) = (grad.f32s(), &spec.geometry, spec.out_pixels());
    let sums = per_channel(g.batch, g.out_channels, pixels, |i| sum(&dy[i * pixels..][..pixels]));
    T::from_f32s(sums, [g.out_channels])
}
