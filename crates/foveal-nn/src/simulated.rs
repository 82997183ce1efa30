//! The interpreter of the forward pass that simulates half precision in single precision.

use burn::module::Param;
use burn::tensor::{FloatDType, Tensor};
use foveal_kernels::{Activation, conv2d, max_pool_3x3_s2_p1, relu, upsample_add};

use crate::eager::Eager;
use crate::graph::{Graph, Named};
use crate::norm::Folded;
use crate::scale::factor;
use crate::{Conv2d, Norm};

/// The interpreter of a forward pass that computes Burn tensors in f32 and rounds them to f16 wherever a GPU that
/// trains in half precision would store or read f16: the weights of convolutions, after a frozen norm is folded into
/// them, the results of convolutions, and every feature map. The gradients of these tensors are rounded too. The
/// parameters stay f32, and norms compute their statistics in f32. The input is rounded by the caller
/// ([`Simulated::rounded`]).
///
/// With it, training in half precision is tested on a CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Simulated;

impl Simulated {
    /// Rounds a tensor to f16 and converts it back to f32; numbers beyond 65504 become infinite. The gradient is
    /// rounded in the same way.
    pub fn rounded<const D: usize>(x: Tensor<D>) -> Tensor<D> {
        // The gradient of a cast is a cast back, so that the gradient passes through f16 as well.
        x.cast(FloatDType::F16).cast(FloatDType::F32)
    }

    /// Computes `activation(conv(x) + shift + residual)` as `foveal-kernels` does for 16-bit maps on a GPU. A shift
    /// alone is added by the convolution, in 16 bits. Otherwise the result of the convolution is rounded, everything
    /// behind it is computed in f32, and the final result is rounded once.
    fn convolved(layer: &Conv2d, weight: Tensor<4>, shift: Option<Tensor<1>>, x: Tensor<4>, rest: Rest) -> Tensor<4> {
        let weight = Self::rounded(weight);
        let Rest { residual, activation } = rest;
        if residual.is_none() && activation == Activation::None {
            return Self::rounded(conv2d(x, weight, shift.map(Self::rounded), layer.options));
        }
        let mut y = Self::rounded(conv2d(x, weight, None, layer.options));
        if let Some(shift) = shift {
            let channels = shift.dims()[0];
            y = y + shift.reshape([1, channels, 1, 1]);
        }
        if let Some(residual) = residual {
            y = y + residual;
        }
        Self::rounded(activated(y, activation))
    }

    /// Computes a convolution with its bias and an activation.
    fn biased(layer: &Conv2d, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        let bias = layer.bias.as_ref().map(Param::val);
        Self::convolved(layer, layer.weight.val(), bias, x, Rest { residual: None, activation })
    }

    /// Computes a convolution, a norm, a sum and an activation. A norm by stored statistics is folded into the
    /// convolution.
    fn normed(layer: &Conv2d, norm: &Norm, x: Tensor<4>, rest: Rest) -> Tensor<4> {
        if !layer.runs_as_one(norm) {
            let y = Self::biased(layer, x, Activation::None);
            return Self::rounded(norm.forward(y, rest.residual, rest.activation));
        }
        let Folded { scale, shift } = norm.by_statistics();
        let weight = layer.weight.val();
        let channels = weight.dims()[0];
        Self::convolved(layer, weight * scale.reshape([channels, 1, 1, 1]), Some(shift), x, rest)
    }
}

/// What follows a convolution and its shift.
struct Rest {
    residual: Option<Tensor<4>>,
    activation: Activation,
}

fn activated(x: Tensor<4>, activation: Activation) -> Tensor<4> {
    match activation {
        Activation::None => x,
        Activation::Relu => relu(x),
    }
}

impl Graph for Simulated {
    type Map = Tensor<4>;
    type Levels = Vec<Tensor<4>>;
    type Rows = Tensor<3>;

    fn conv(&mut self, conv: Named<'_, Conv2d>, x: Tensor<4>) -> Tensor<4> {
        Self::biased(conv.layer, x, Activation::None)
    }

    fn conv_norm(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Named<'_, Norm>,
        x: Tensor<4>,
        residual: Option<Tensor<4>>,
        activation: Activation,
    ) -> Tensor<4> {
        Self::normed(conv.layer, norm.layer, x, Rest { residual, activation })
    }

    fn max_pool(&mut self, x: Tensor<4>) -> Tensor<4> {
        max_pool_3x3_s2_p1(x)
    }

    fn relu(&mut self, x: Tensor<4>) -> Tensor<4> {
        relu(x)
    }

    fn upsample_add(&mut self, lateral: Tensor<4>, top: Tensor<4>) -> Tensor<4> {
        Self::rounded(upsample_add(lateral, top))
    }

    fn levels(&mut self, maps: &[Tensor<4>], _norms: bool) -> Vec<Tensor<4>> {
        maps.to_vec()
    }

    fn conv_levels(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Option<Named<'_, Norm>>,
        x: Vec<Tensor<4>>,
        activation: Activation,
    ) -> Vec<Tensor<4>> {
        let each = x.into_iter().map(|map| match norm {
            Some(norm) => Self::normed(conv.layer, norm.layer, map, Rest { residual: None, activation }),
            None => Self::biased(conv.layer, map, activation),
        });
        each.collect()
    }

    fn scale_levels(&mut self, factors: Named<'_, Param<Tensor<1>>>, x: Vec<Tensor<4>>) -> Vec<Tensor<4>> {
        let each = x.into_iter().enumerate().map(|(level, map)| Self::rounded(map * factor(factors.layer, level)));
        each.collect()
    }

    fn rows(&mut self, x: Vec<Tensor<4>>, values: usize) -> Tensor<3> {
        let levels = Eager.levels(&x, false);
        Eager.rows(levels, values)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{NORM_EPS, NormKind, named};

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn values_and_gradients_are_rounded_to_half_precision() {
        let device = Device::flex().autodiff();
        // 1 + 2^-11 lies between two f16 numbers, and 70000 is beyond the largest one.
        let x = Tensor::<1>::from_floats([1.0 + 0.5_f32.powi(11), 3.0, 70000.0], &device).require_grad();
        let y = Simulated::rounded(x.clone());
        assert_eq!(values(y.clone().without_autodiff()), [1.0, 3.0, f32::INFINITY]);
        let factors = Tensor::<1>::from_floats([1.0 + 3.0 * 0.5_f32.powi(11), 1e-9, 1e6], &device);
        let gradients = (y * factors).sum().backward();
        assert_eq!(values(x.grad(&gradients).unwrap()), [1.0 + 0.5_f32.powi(9), 0.0, f32::INFINITY]);
    }

    #[test]
    fn products_with_factors_are_rounded() {
        let device = Device::flex();
        let maps = vec![Tensor::full([1, 1, 1, 1], 3.0, &device), Tensor::full([1, 1, 1, 1], 5.0, &device)];
        let factors = Param::from_tensor(Tensor::<1>::from_floats([0.1, 1.0], &device));
        let scaled = Simulated.scale_levels(named("factors", &factors), maps);
        // 0.3 in half precision; the factor itself is not rounded.
        let expected = burn::tensor::f16::from_f32(3.0 * 0.1).to_f32();
        assert_eq!(scaled.into_iter().map(values).collect::<Vec<_>>(), [[expected], [5.0]]);
    }

    #[test]
    fn a_block_is_close_to_single_precision_and_holds_half_precision_numbers() {
        let device = Device::flex();
        let ramp = |n: usize, step: f32| -> Vec<f32> { (0..n).map(|i| (i % 13) as f32 * step - 0.3).collect() };
        let tensor = |shape: [usize; 4], step: f32| {
            Tensor::<1>::from_floats(ramp(shape.iter().product(), step).as_slice(), &device).reshape(shape)
        };
        let conv = Conv2d::same(tensor([4, 4, 3, 3], 0.037), None, 1);
        let biased = Conv2d::same(tensor([4, 4, 3, 3], 0.037), Some(Tensor::full([4], 0.123, &device)), 1);
        let x = Simulated::rounded(tensor([1, 4, 8, 8], 0.11));
        for kind in [NormKind::Frozen, NormKind::FrozenStatistics, NormKind::Batch, NormKind::Group { groups: 2 }] {
            let norm = Norm::new(4, kind, NORM_EPS, &device);
            for layer in [&conv, &biased] {
                let run = |residual: Option<Tensor<4>>| {
                    let (conv, norm) = (named("conv1", layer), named("bn1", &norm));
                    let exact = Eager.conv_norm(conv, norm, x.clone(), residual.clone(), Activation::Relu);
                    let rounded = Simulated.conv_norm(conv, norm, x.clone(), residual, Activation::Relu);
                    assert_eq!(values(Simulated::rounded(rounded.clone())), values(rounded.clone()));
                    let (exact, rounded) = (values(exact), values(rounded));
                    let largest = exact.iter().fold(0f32, |m, v| m.max(v.abs()));
                    let off = exact.iter().zip(&rounded).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                    assert!(off > 0.0 && off <= 4e-3 * largest, "{kind:?}: {off}, largest {largest}");
                };
                run(None);
                run(Some(x.clone()));
            }
        }
    }
}
