//! The interpreter of the forward pass that computes Burn tensors.

use burn::module::Param;
use burn::tensor::Tensor;
use foveal_kernels::{Activation, MapSize, channels_last, max_pool_3x3_s2_p1, relu, takes_maps, upsample_add};

use crate::canvas::CanvasLevels;
use crate::graph::{Graph, Named};
use crate::scale::{scaled, scaled_joined};
use crate::{Conv2d, LevelStats, Norm, ValueStats};

/// The interpreter of a forward pass that computes Burn tensors. Each operation runs immediately on the device of its
/// tensors, with the fused kernels of `foveal-kernels` on CPUs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Eager;

/// The feature maps of several pyramid levels, as [`Eager`] stores them.
#[derive(Clone, Debug)]
pub struct TensorLevels(Storage);

/// The memory of the maps of several levels.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a forward pass holds few of them, and each holds tensors")]
enum Storage {
    /// All levels in one tensor, which the CPU kernels process at once.
    Joined {
        /// `[batch, channels, pixels]`: the maps with the sizes `sizes`, each row by row, one after the other.
        maps: Tensor<3>,
        /// The height and width of each level's map.
        sizes: Vec<MapSize>,
    },
    /// All levels side by side in one map, for layers without norms on GPUs. Each convolution then starts its kernels
    /// once instead of once for each level.
    Canvas(CanvasLevels),
    /// Each level as a map `[batch, channels, height, width]`. GPU kernels store maps with the channels last, and
    /// joining the pixels of such maps would copy and transpose each of them at every layer.
    Separate(Vec<Tensor<4>>),
}

impl LevelStats for TensorLevels {
    fn stats(&self) -> ValueStats {
        match &self.0 {
            Storage::Joined { maps, .. } => ValueStats::of_tensor(maps),
            Storage::Canvas(canvas) => canvas.stats(),
            Storage::Separate(maps) => {
                maps.iter().map(ValueStats::of_tensor).reduce(ValueStats::merged).unwrap_or_default()
            }
        }
    }
}

impl Graph for Eager {
    type Map = Tensor<4>;
    type Levels = TensorLevels;
    type Rows = Tensor<3>;

    fn conv(&mut self, conv: Named<'_, Conv2d>, x: Tensor<4>) -> Tensor<4> {
        conv.layer.forward(x)
    }

    fn conv_norm(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Named<'_, Norm>,
        x: Tensor<4>,
        residual: Option<Tensor<4>>,
        activation: Activation,
    ) -> Tensor<4> {
        conv.layer.forward_norm(x, norm.layer, residual, activation)
    }

    fn max_pool(&mut self, x: Tensor<4>) -> Tensor<4> {
        max_pool_3x3_s2_p1(x)
    }

    fn stem(&mut self, conv: Named<'_, Conv2d>, norm: Named<'_, Norm>, x: Tensor<4>) -> Tensor<4> {
        if !takes_maps(&x) {
            let x = self.conv_norm(conv, norm, x, None, Activation::Relu);
            return self.max_pool(x);
        }
        // The ReLU of the maximum is the maximum of the ReLUs, and so are their gradients. In this order the backward
        // pass needs a map of a quarter of the size, which is the input of the next layer as well.
        let x = self.conv_norm(conv, norm, x, None, Activation::None);
        let x = self.max_pool(x);
        self.relu(x)
    }

    fn relu(&mut self, x: Tensor<4>) -> Tensor<4> {
        relu(x)
    }

    fn upsample_add(&mut self, lateral: Tensor<4>, top: Tensor<4>) -> Tensor<4> {
        upsample_add(lateral, top)
    }

    fn levels(&mut self, maps: &[Tensor<4>], norms: bool) -> TensorLevels {
        if maps.iter().all(takes_maps) {
            let flat = maps.iter().map(|map| map.clone().flatten(2, 3));
            let sizes = maps.iter().map(MapSize::of).collect();
            return TensorLevels(Storage::Joined { maps: Tensor::cat(flat.collect(), 2), sizes });
        }
        let canvas = if norms { None } else { CanvasLevels::of(maps) };
        TensorLevels(canvas.map_or_else(|| Storage::Separate(maps.to_vec()), Storage::Canvas))
    }

    fn conv_levels(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Option<Named<'_, Norm>>,
        x: TensorLevels,
        activation: Activation,
    ) -> TensorLevels {
        TensorLevels(match x.0 {
            Storage::Joined { maps, sizes } => {
                let maps = match norm {
                    Some(norm) => {
                        let maps = conv.layer.forward_maps(maps, &sizes, Activation::None);
                        norm.layer.forward_maps(maps, &sizes, activation)
                    }
                    None => conv.layer.forward_maps(maps, &sizes, activation),
                };
                Storage::Joined { maps, sizes }
            }
            Storage::Canvas(canvas) if norm.is_none() && canvas.takes(conv.layer) => {
                Storage::Canvas(canvas.convolved(conv.layer, activation))
            }
            Storage::Canvas(canvas) => separately(canvas.maps(), conv, norm, activation),
            Storage::Separate(maps) => separately(maps, conv, norm, activation),
        })
    }

    fn scale_levels(&mut self, factors: Named<'_, Param<Tensor<1>>>, x: TensorLevels) -> TensorLevels {
        TensorLevels(match x.0 {
            Storage::Joined { maps, sizes } => {
                let maps = scaled_joined(maps, &sizes, factors.layer);
                Storage::Joined { maps, sizes }
            }
            // The factors follow the last layer, so that a canvas is taken apart where its rows are taken out of it.
            Storage::Canvas(canvas) => Storage::Separate(scaled(canvas.maps(), factors.layer)),
            Storage::Separate(maps) => Storage::Separate(scaled(maps, factors.layer)),
        })
    }

    fn rows(&mut self, x: TensorLevels, values: usize) -> Tensor<3> {
        match x.0 {
            Storage::Joined { maps, .. } => {
                let [batch, channels, pixels] = maps.dims();
                channels_last(maps).reshape([batch, pixels * anchors_per_location(channels, values), values])
            }
            Storage::Canvas(canvas) => canvas.rows(values),
            Storage::Separate(maps) => {
                let each = maps.into_iter().map(|map| {
                    let [batch, channels, height, width] = map.dims();
                    let anchors = height * width * anchors_per_location(channels, values);
                    // A map of a GPU kernel has the channels last in memory, so that nothing is copied here.
                    map.permute([0, 2, 3, 1]).reshape([batch, anchors, values])
                });
                Tensor::cat(each.collect(), 1)
            }
        }
    }
}

/// Computes `activation(norm(conv(x)))` for one map after the other.
fn separately(
    maps: Vec<Tensor<4>>,
    conv: Named<'_, Conv2d>,
    norm: Option<Named<'_, Norm>>,
    activation: Activation,
) -> Storage {
    let each = maps.into_iter().map(|map| match norm {
        Some(norm) => norm.layer.forward(conv.layer.forward(map), None, activation),
        None => conv.layer.forward_activated(map, activation),
    });
    Storage::Separate(each.collect())
}

/// Number of anchors at each location of a map whose channels are ordered (anchor, value). Anchor order is (level, row,
/// column, anchor of the location), so a pair of anchor and value stays together where channels become rows.
fn anchors_per_location(channels: usize, values: usize) -> usize {
    assert!(channels.is_multiple_of(values), "expected a multiple of {values} channels, found {channels}");
    channels / values
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    const PER_LOCATION: usize = 2;
    const VALUES: usize = 3;

    /// A map with its indices as values, or with these plus `add`.
    fn indices(height: usize, width: usize, add: f32) -> Tensor<4> {
        let n = PER_LOCATION * VALUES * height * width;
        let map = Tensor::<1, Int>::arange(0..n as i64, &Device::flex()).float() + add;
        map.reshape([1, PER_LOCATION * VALUES, height, width])
    }

    fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// The order of anchors that foveal-anchors defines: anchor index = ((y * width) + x) * anchors_per_location +
    /// anchor.
    #[test]
    fn rows_are_in_anchor_order() {
        let (per_location, values, height, width) = (PER_LOCATION, VALUES, 2usize, 4usize);
        let map = indices(height, width, 0.0);
        let levels = Eager.levels(std::slice::from_ref(&map), false);
        assert!(matches!(levels.0, Storage::Joined { .. }));
        let rows = to_vec(Eager.rows(levels, values));
        // In the memory of a GPU, the channels are last.
        let channels_last = map.clone().permute([0, 2, 3, 1]) * 1.0;
        for separate in [map, channels_last.permute([0, 3, 1, 2])] {
            assert_eq!(to_vec(Eager.rows(TensorLevels(Storage::Separate(vec![separate])), values)), rows);
        }
        for y in 0..height {
            for x in 0..width {
                for anchor in 0..per_location {
                    for value in 0..values {
                        let row = (y * width + x) * per_location + anchor;
                        let expected = ((anchor * values + value) * height + y) * width + x;
                        assert_eq!(rows[row * values + value], expected as f32);
                    }
                }
            }
        }
    }

    /// Two levels of 2x1 and 1x1 pixels with the values 1, 2 and 3 in the first channel and 4, 5 and 6 in the second,
    /// and the factors 10 and -2. The loss is the sum of all results, each multiplied by its weight: 1 to 4 for the
    /// first level and 5 and 6 for the second, in the order pixel, channel.
    #[test]
    fn factors_and_their_gradients_match_values_computed_by_hand() {
        let device = Device::flex().autodiff();
        let map = |values: &[f32], height: usize| {
            Tensor::<1>::from_floats(values, &device).reshape([1, 2, height, 1]).detach().require_grad()
        };
        for stored in ["joined", "canvas", "separate"] {
            let maps = [map(&[1.0, 2.0, 4.0, 5.0], 2), map(&[3.0, 6.0], 1)];
            let levels = match stored {
                "joined" => Eager.levels(&maps, false),
                "canvas" => TensorLevels(Storage::Canvas(CanvasLevels::within(&maps, u64::MAX))),
                _ => TensorLevels(Storage::Separate(maps.to_vec())),
            };
            // The third factor is that of a level that is not there.
            let factors = Param::from_tensor(Tensor::<1>::from_floats([10.0, -2.0, 7.0], &device));
            let rows = Eager.rows(Eager.scale_levels(crate::named("factors", &factors), levels), 2);
            assert_eq!(to_vec(rows.clone()), [10.0, 40.0, 20.0, 50.0, -6.0, -12.0], "{stored}");
            let weights = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &device).reshape([1, 3, 2]);
            let gradients = (rows * weights).sum().backward();
            let of_maps = maps.map(|map| to_vec(map.grad(&gradients).unwrap()));
            assert_eq!(of_maps, [vec![10.0, 30.0, 20.0, 40.0], vec![-10.0, -12.0]], "{stored}");
            // 1 * 1 + 2 * 4 + 3 * 2 + 4 * 5 = 35 and 5 * 3 + 6 * 6 = 51.
            assert_eq!(to_vec(factors.val().grad(&gradients).unwrap()), [35.0, 51.0, 0.0], "{stored}");
        }
    }

    #[test]
    fn levels_are_convolved_and_ordered_as_joined_ones_however_they_are_stored() {
        let device = Device::flex();
        let maps = [indices(6, 4, 0.0) * 0.01, indices(3, 2, 100.0) * 0.01];
        let weight = Tensor::<1, Int>::arange(0..36 * 9, &device).float().sin().reshape([6, 6, 3, 3]);
        let conv = Conv2d::same(weight, Some(Tensor::ones([6], &device)), 1);
        let norm = Norm::new(6, crate::NormKind::Group { groups: 2 }, crate::NORM_EPS, &device);
        for norm in [None, Some(crate::named("1", &norm))] {
            let run = |levels: TensorLevels| {
                let levels = Eager.conv_levels(crate::named("0", &conv), norm, levels, Activation::Relu);
                let stats = levels.stats();
                (to_vec(Eager.rows(levels, VALUES)), stats)
            };
            let (joined, stats) = run(Eager.levels(&maps, norm.is_some()));
            let canvas = |limit| Storage::Canvas(CanvasLevels::within(&maps, limit));
            // A canvas with too large tensors, or one that meets a norm, is taken apart.
            for storage in [Storage::Separate(maps.to_vec()), canvas(u64::MAX), canvas(0)] {
                let (values, other) = run(TensorLevels(storage));
                assert_eq!((values.len(), other.count), (joined.len(), stats.count));
                for (a, b) in values.into_iter().zip(&joined) {
                    assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} {b}");
                }
            }
        }
    }
}
