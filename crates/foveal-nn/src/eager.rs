//! The interpreter of the forward pass that computes Burn tensors.

use burn::tensor::Tensor;
use foveal_kernels::{Activation, MapSize, channels_last, max_pool_3x3_s2_p1, relu, takes_maps, upsample_add};

use crate::graph::{Graph, Named};
use crate::{Conv2d, Norm};

/// The interpreter of a forward pass that computes Burn tensors. Each operation runs immediately on the device of its
/// tensors, with the fused kernels of `foveal-kernels` on CPUs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Eager;

/// The feature maps of several pyramid levels, as [`Eager`] stores them.
///
/// The CPU kernels process all levels in one tensor. On other devices each level is a tensor of its own, because the
/// operations there would split a joined tensor again.
#[derive(Clone, Debug)]
pub struct TensorLevels(Vec<JoinedMaps>);

impl TensorLevels {
    /// The maps of all levels, `[batch, channels, pixels]` for each tensor.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor<3>> {
        self.0.iter().map(|joined| &joined.maps)
    }

    /// Applies `f` to each tensor of maps, `[batch, channels, pixels]`, with the sizes of its maps.
    pub(crate) fn map(self, f: impl Fn(Tensor<3>, &[MapSize]) -> Tensor<3>) -> Self {
        let each = self.0.into_iter().map(|JoinedMaps { maps, sizes }| JoinedMaps { maps: f(maps, &sizes), sizes });
        Self(each.collect())
    }
}

/// Maps of one or more levels in one tensor.
#[derive(Clone, Debug)]
struct JoinedMaps {
    /// `[batch, channels, pixels]`: the maps with the sizes `sizes`, each row by row, one after the other.
    maps: Tensor<3>,
    sizes: Vec<MapSize>,
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

    fn relu(&mut self, x: Tensor<4>) -> Tensor<4> {
        relu(x)
    }

    fn upsample_add(&mut self, lateral: Tensor<4>, top: Tensor<4>) -> Tensor<4> {
        upsample_add(lateral, top)
    }

    fn levels(&mut self, maps: &[Tensor<4>]) -> TensorLevels {
        let joined = maps.iter().all(takes_maps);
        let sizes = maps.iter().map(MapSize::of);
        let flat = maps.iter().map(|map| map.clone().flatten(2, 3));
        TensorLevels(if joined {
            vec![JoinedMaps { maps: Tensor::cat(flat.collect(), 2), sizes: sizes.collect() }]
        } else {
            flat.zip(sizes).map(|(maps, size)| JoinedMaps { maps, sizes: vec![size] }).collect()
        })
    }

    fn conv_levels(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Option<Named<'_, Norm>>,
        x: TensorLevels,
        activation: Activation,
    ) -> TensorLevels {
        x.map(|maps, sizes| match norm {
            Some(norm) => {
                let maps = conv.layer.forward_maps(maps, sizes, Activation::None);
                norm.layer.forward_maps(maps, sizes, activation)
            }
            None => conv.layer.forward_maps(maps, sizes, activation),
        })
    }

    fn rows(&mut self, x: TensorLevels, values: usize) -> Tensor<3> {
        let mut rows: Vec<_> = x.0.into_iter().map(|part| rows_of_maps(part.maps, values)).collect();
        if rows.len() == 1 { rows.remove(0) } else { Tensor::cat(rows, 1) }
    }
}

/// Brings the maps of some levels into anchor order (level, row, column, anchor of the location).
///
/// # Shapes
/// - maps: `[batch, anchors_per_location * values, pixels]`, channels ordered (anchor, value)
/// - result: `[batch, pixels * anchors_per_location, values]`
fn rows_of_maps(maps: Tensor<3>, values: usize) -> Tensor<3> {
    let [batch, channels, pixels] = maps.dims();
    assert!(channels.is_multiple_of(values), "expected a multiple of {values} channels, found {channels}");
    // The pair (anchor, value) stays together, so only channels and pixels change places.
    channels_last(maps).reshape([batch, pixels * (channels / values), values])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    /// The order of anchors that foveal-anchors defines: anchor index = ((y * width) + x) * anchors_per_location +
    /// anchor.
    #[test]
    fn rows_are_in_anchor_order() {
        let (per_location, values, height, width) = (2usize, 3usize, 2usize, 4usize);
        let n = per_location * values * height * width;
        let map = Tensor::<1, Int>::arange(0..n as i64, &Device::flex()).float();
        let map = map.reshape([1, per_location * values, height, width]);
        let levels = Eager.levels(&[map]);
        let rows: Vec<f32> = Eager.rows(levels, values).into_data().try_to_vec().unwrap();
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
}
