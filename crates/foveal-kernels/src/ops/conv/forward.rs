//! The forward pass of the convolution: by Winograd's minimal filtering if that is faster, else directly.
use super::direct;
use super::epilogue::SliceEpilogue;
use super::packed::{Packed, Weights};
use super::spec::ConvSpec;
use super::winograd;
use crate::cpu::CpuTensor;
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

/// Computes `activation(conv(x, weight) * scale + shift + residual)`. The result has the channels last in memory.
pub(super) fn forward<T: CpuTensor>(x: T, weight: T, extra: Extra<T>, spec: &ConvSpec) -> T {
    let (x, weight) = (x.into_nhwc(), weight.contiguous());
    let [scale, shift] = [extra.scale, extra.shift].map(T::contiguous);
    let residual = spec.parts.residual.then(|| extra.residual.into_nhwc());
    let epilogue = SliceEpilogue::new(
        spec.parts.scale.then(|| scale.f32s()),
        spec.parts.shift.then(|| shift.f32s()),
        residual.as_ref().map(T::f32s),
        spec.activation == Activation::Relu,
    );
    let (g, w) = (&spec.geometry, weight.f32s());
    let y = match spec.winograd() {
        Some(maps) => {
            let weights = winograd::Weights {
                values: w,
                outputs: g.out_channels,
                inputs: g.in_channels,
                output_stride: g.depth(),
                input_stride: g.taps(),
                turned: false,
            };
            winograd::convolve(x.f32s(), weights, &epilogue, &maps)
        }
        None => {
            let taps: Vec<usize> = (0..g.taps()).collect();
            let weights = Weights {
                values: w,
                groups: g.groups,
                taps: &taps,
                channels: g.part_inputs(),
                columns: g.part_outputs(),
                group_stride: g.part_outputs() * g.depth(),
                channel_stride: g.taps(),
                column_stride: g.depth(),
            };
            direct::convolve(x.f32s(), &Packed::new(weights), &epilogue, g)
        }
    };
    T::from_shape(y, spec.output_nhwc()).from_nhwc()
}
