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
            let dims = [g.out_channels, g.in_channels];
            if are_kept(&mut weight) {
                let weights =
                    prepared(&mut weight, dims, |values, buffer| Transformed::new(Weights::new(values, dims), buffer));
                winograd::convolve(x.f32s(), &weights, epilogue, &maps)
            } else {
                winograd::convolve_in_parts(x.f32s(), Weights::new(weight.f32s(), dims), epilogue, &maps)
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
