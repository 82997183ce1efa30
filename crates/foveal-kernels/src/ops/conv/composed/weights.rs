//! The weight and the vectors of a convolution in the form in which the composed convolution reads them.
use burn::backend::{Backend, Dispatch, Flex, NdArray, backend_extension, tensor::FloatTensor};
use burn::tensor::{DType, Tensor};

use crate::kept::{Kept, ValueId, value_id};

/// A weight in the form in which the convolution reads it. The tensors have no autodiff.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// Weight times scale, in the data type of the maps, `[out_channels, in_channels / groups, kernel, kernel]`; `None`
    /// if this is the weight itself.
    pub(super) folded: Option<Tensor<4>>,
    /// The folded weight with input and output channels exchanged and each kernel rotated by 180 degrees,
    /// `[in_channels, out_channels, kernel, kernel]`; `None` if it was not asked for.
    pub(super) turned: Option<Tensor<4>>,
}

/// What a prepared weight depends on.
#[derive(Clone, Debug, PartialEq)]
struct WeightKey {
    weight: ValueId,
    scale: Option<ValueId>,
    maps: DType,
    turned: bool,
}

/// Keeps the weight, scale and shift of a convolution in the form in which a GPU reads them, until they or the data
/// type of the maps change.
///
/// A layer that is not trained thus prepares its weight once, and a layer that is applied to several maps in a step
/// once in the step. On CPUs nothing is kept. The cost is memory for a second copy of each weight that is converted or
/// turned.
#[derive(Clone, Debug, Default)]
pub struct ConvCache {
    weight: Kept<WeightKey, Prepared>,
    scale: Kept<ValueId, Tensor<4>>,
    shift: Kept<ValueId, Tensor<4>>,
}

/// Prepares `weight` for maps of the data type `maps`, with `scale` folded in, or returns what the cache keeps.
///
/// # Shapes
/// - weight: `[out_channels, in_channels / groups, kernel, kernel]`; one group if `turned` is asked for
/// - scale: `[out_channels]`
pub(super) fn prepare(
    weight: &Tensor<4>,
    scale: Option<&Tensor<1>>,
    maps: DType,
    turned: bool,
    cache: Option<&ConvCache>,
) -> Prepared {
    let folds = scale.is_some() || weight.dtype() != maps;
    let compute = || {
        let weight = weight.clone().without_autodiff();
        let folded = match scale {
            Some(scale) => {
                let out_channels = weight.dims()[0];
                let scale = scale.clone().without_autodiff().reshape([out_channels, 1, 1, 1]);
                weight * scale
            }
            None => weight,
        };
        let folded = folded.cast(maps);
        let turned =
            turned.then(|| Tensor::from_dispatch(<Dispatch as TurnOps>::turned_weight(folded.clone().into_dispatch())));
        Prepared { folded: folds.then_some(folded), turned }
    };
    match cache.filter(|_| folds || turned).zip(value_id(weight)) {
        Some((cache, id)) => {
            let scale = scale.map(value_id);
            // A scale of another device is an error that the computation reports.
            match scale {
                Some(None) => compute(),
                scale => cache.weight.get(WeightKey { weight: id, scale: scale.flatten(), maps, turned }, compute),
            }
        }
        None => compute(),
    }
}

/// A number for each channel as a map with one pixel, which operations on maps broadcast.
///
/// # Shapes
/// - values: `[channels]`
/// - result: `[1, channels, 1, 1]`
fn as_map(values: &Tensor<1>, kept: Option<&Kept<ValueId, Tensor<4>>>) -> Tensor<4> {
    let compute = || values.clone().without_autodiff().reshape([1, values.dims()[0], 1, 1]);
    match kept.zip(value_id(values)) {
        Some((kept, id)) => kept.get(id, compute),
        None => compute(),
    }
}

/// The scale as a map with one pixel, `[1, channels, 1, 1]`, without autodiff.
pub(super) fn scale_map(scale: &Tensor<1>, cache: Option<&ConvCache>) -> Tensor<4> {
    as_map(scale, cache.map(|cache| &cache.scale))
}

/// The shift as a map with one pixel, `[1, channels, 1, 1]`, without autodiff.
pub(super) fn shift_map(shift: &Tensor<1>, cache: Option<&ConvCache>) -> Tensor<4> {
    as_map(shift, cache.map(|cache| &cache.shift))
}

/// Extension of Burn's backends by the exchange of a weight's channels. It is one operation, because fusion would run
/// its changes of the view as operations of their own.
#[backend_extension(NdArray, Flex, Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait TurnOps: Backend {
    /// Exchanges input and output channels and rotates each kernel by 180 degrees.
    ///
    /// The result is a view of memory in the order `[in_channels, kernel, kernel, out_channels]`, which the matrix
    /// product of the input's gradient reads without a copy.
    ///
    /// # Shapes
    /// - weight: `[out_channels, in_channels, kernel, kernel]`
    /// - result: `[in_channels, out_channels, kernel, kernel]`
    #[fusion(dtype = weight, shape = turned_shape(weight))]
    fn turned_weight(weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let rows = Self::float_permute(weight, &[1, 2, 3, 0]);
        Self::float_permute(Self::float_flip(rows, &[1, 2]), &[0, 3, 1, 2])
    }
}

impl TurnOps for NdArray {}
impl TurnOps for Flex {}
#[cfg(feature = "wgpu")]
impl TurnOps for burn::backend::wgpu::CubeBackend {}

/// The shape of a turned weight.
#[cfg(feature = "wgpu")]
fn turned_shape(weight: &burn::tensor::Shape) -> burn::tensor::Shape {
    let [out_channels, in_channels, height, width] = weight.dims();
    [in_channels, out_channels, height, width].into()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::test_common::{tensor, to_vec};

    /// The folded and the turned weight by their definition, in row-major order.
    fn by_hand(weight: &[f32], scale: &[f32], [outputs, inputs, k]: [usize; 3]) -> [Vec<f32>; 2] {
        let mut folded = weight.to_vec();
        let mut turned = weight.to_vec();
        for o in 0..outputs {
            for i in 0..inputs {
                for tap in 0..k * k {
                    let from = (o * inputs + i) * k * k + tap;
                    folded[from] = weight[from] * scale[o];
                    turned[(i * outputs + o) * k * k + (k * k - 1 - tap)] = folded[from];
                }
            }
        }
        [folded, turned]
    }

    fn check(prepared: &Prepared, weight: &Tensor<4>, scale: &Tensor<1>) {
        let expected = by_hand(&to_vec(weight.clone()), &to_vec(scale.clone()), [4, 3, 3]);
        let found = [&prepared.folded, &prepared.turned].map(|t| to_vec(t.clone().expect("it was asked for")));
        assert_eq!(found, expected);
    }

    #[test]
    fn weights_are_scaled_and_turned() {
        let device = Device::flex();
        let (weight, scale) = (tensor::<4>(1, [4, 3, 3, 3], &device), tensor::<1>(2, [4], &device));
        let cache = ConvCache::default();
        check(&prepare(&weight, Some(&scale), DType::F32, true, Some(&cache)), &weight, &scale);
        // Nothing is kept on a CPU, so another weight is not mistaken for the first.
        let other = weight * 2.0;
        check(&prepare(&other, Some(&scale), DType::F32, true, Some(&cache)), &other, &scale);
        let plain = prepare(&other, None, DType::F32, false, Some(&cache));
        assert!(plain.folded.is_none() && plain.turned.is_none(), "the weight is used as it is");
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn wgpu_weights_are_prepared_once_and_follow_their_changes() {
        let device = crate::test_adapter().autodiff();
        let weight = tensor::<4>(1, [4, 3, 3, 3], &device).require_grad();
        let scale = tensor::<1>(2, [4], &device);
        let cache = ConvCache::default();
        let run = |weight: &Tensor<4>, scale: &Tensor<1>| {
            let prepared = prepare(weight, Some(scale), DType::F32, true, Some(&cache));
            check(&prepared, weight, scale);
            assert!(!prepared.turned.as_ref().is_some_and(Tensor::is_autodiff), "a prepared weight has no autodiff");
            prepared.turned.as_ref().and_then(value_id).expect("a tensor of a GPU has an identity")
        };
        let first = run(&weight, &scale);
        assert_eq!(run(&weight, &scale), first, "the prepared weight is kept");
        assert_eq!(run(&weight.clone().without_autodiff(), &scale), first, "it does not depend on autodiff");
        let (other, other_scale) = (weight.clone() * 2.0, scale.clone() + 1.0);
        let second = run(&other, &scale);
        assert_ne!(second, first);
        assert_ne!(run(&other, &other_scale), second);
        run(&weight, &scale);
    }
}
