//! The forward pass of the convolution: by Winograd's minimal filtering if that is faster, else directly.
use super::direct;
use super::packed::{Matrices, Packed};
use super::spec::ConvSpec;
use super::winograd::{self, Transformed, Weights};
use crate::cpu::CpuTensor;
use crate::cpu::matmul::Finish;
use crate::cpu::weights::{are_kept, prepared};
use crate::ops::elementwise::Activation;

/// The optional tensors of a convolution's epilogue. A tensor that [`ConvSpec`] declares absent is empty.
pub(super) struct Extra<T> {
    /// Factor of each output channel, `[out_channels]`.
    pub(super) scale: T,
    /// Number added to each output channel, `[out_channels]`.
    pub(super) shift: T,
    /// Tensor that is added, of the result's shape.
    pub(super) residual: T,
}

/// Computes `activation(conv(x, weight) * scale + shift + residual)`.
pub(super) fn forward<T: CpuTensor>(x: T, weight: T, extra: Extra<T>, spec: &ConvSpec) -> T {
    let (x, mut weight) = (x.contiguous(), weight.contiguous());
    let [scale, shift, residual] = [extra.scale, extra.shift, extra.residual].map(T::contiguous);
    let epilogue = Finish {
        scale: spec.parts.scale.then(|| scale.f32s()),
        shift: spec.parts.shift.then(|| shift.f32s()),
        residual: spec.parts.residual.then(|| residual.f32s()),
        relu: spec.activation == Activation::Relu,
    };
    let g = &spec.geometry;
    let y = match spec.winograd() {
        Some(maps) => {
            let (outputs, inputs) = (g.out_channels, g.in_channels);
            let (output_stride, input_stride) = (g.depth(), g.taps());
            let shape =
                Weights { values: &[], outputs, inputs, output_stride, input_stride, turned: false, input_scale: None };
            if are_kept(&mut weight) {
                let weights = prepared(&mut weight, [outputs, inputs], |values, buffer| {
                    Transformed::new(Weights { values, ..shape }, buffer)
                });
                winograd::convolve(x.f32s(), &weights, epilogue, &maps)
            } else {
                let weights = Weights { values: weight.f32s(), ..shape };
                winograd::convolve_in_parts(x.f32s(), weights, epilogue, &maps)
            }
        }
        None => {
            let (rows, depth) = (g.part_outputs(), g.depth());
            let weight = prepared(&mut weight, [rows, depth], |values, buffer| {
                Packed::new(Matrices { values, groups: g.groups, rows, depth }, buffer)
            });
            direct::convolve(x.f32s(), &weight, epilogue, g)
        }
    };
    T::from_shape(y, spec.output_shape())
}
