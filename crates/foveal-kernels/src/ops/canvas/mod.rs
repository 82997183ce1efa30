//! The maps of several pyramid levels in one feature map, the canvas, so that a layer that all levels share runs once
//! on a GPU instead of once for each level.
//!
//! A canvas is put together from the maps, and its values are taken out of it, in one pass each. The gradients of both
//! take one pass as well.
mod composed;
#[cfg(feature = "wgpu")]
mod gpu;
#[cfg(feature = "wgpu")]
mod kernel;
mod layout;
mod limit;
mod node;

use burn::backend::Dispatch;
use burn::tensor::{Shape, Tensor};

use crate::ops::conv::MapSize;
use node::{CanvasOps, Plan};

pub use layout::CanvasLayout;
pub use limit::canvas_limit;

/// Largest number of maps that a canvas holds: the pyramid levels P3 to P7.
pub const CANVAS_LEVELS: usize = 5;

/// The maps of several pyramid levels in one feature map. See [`CanvasLayout`] for their places.
#[derive(Clone, Debug)]
pub struct Canvas {
    /// The feature map, `[batch, channels, height, width]`. On GPUs it has the channels last in memory.
    pub map: Tensor<4>,
    /// 1 at the pixels of the maps and 0 between them, `[1, 1, height, width]`, in the data type of the maps and
    /// without gradient.
    pub mask: Tensor<4>,
    /// Where the maps lie.
    pub layout: CanvasLayout,
}

/// Places the maps of several pyramid levels in a canvas. The pixels between them are 0. The maps receive gradients.
///
/// # Shapes
/// - maps: `[batch, channels, height, width]` for each level, at most [`CANVAS_LEVELS`]; batch and channels are the
///   same for all
///
/// # Panics
/// If there is no map, if there are too many, or if their batches, channels or data types differ.
pub fn canvas(maps: &[Tensor<4>]) -> Canvas {
    let count = maps.len();
    assert!((1..=CANVAS_LEVELS).contains(&count), "canvas: expected 1 to {CANVAS_LEVELS} maps, found {count}");
    let [batch, channels, _, _] = maps[0].dims();
    for map in maps {
        let [images, found, _, _] = map.dims();
        assert_eq!([images, found], [batch, channels], "canvas: batch and channels of all maps must be the same");
        assert_eq!(map.dtype(), maps[0].dtype(), "canvas: the data type of all maps must be the same");
    }
    let sizes: Vec<MapSize> = maps.iter().map(MapSize::of).collect();
    let layout = CanvasLayout::new(&sizes);
    // The operation has a fixed number of tensors. Those beyond the last map are not read.
    let unused = maps[0].clone().without_autodiff();
    let [m0, m1, m2, m3, m4]: [_; CANVAS_LEVELS] =
        std::array::from_fn(|level| maps.get(level).unwrap_or(&unused).clone().into_dispatch());
    let (map, mask) = <Dispatch as CanvasOps>::canvas_place(m0, m1, m2, m3, m4, plan(&layout));
    Canvas { map: Tensor::from_dispatch(map), mask: Tensor::from_dispatch(mask), layout }
}

/// Returns the values of all anchors of a canvas whose channels are ordered (anchor, value), in the order level, row,
/// column, anchor of the location. The canvas receives gradients, which are 0 between the maps.
///
/// # Shapes
/// - map: `[batch, anchors_per_location * values, height, width]`, with the height and the width of the layout
/// - result: `[batch, anchors, values]`
///
/// # Panics
/// If the map has another height or width than the layout, or if `values` does not divide the channels.
pub fn canvas_rows(map: Tensor<4>, layout: &CanvasLayout, values: usize) -> Tensor<3> {
    let [_, channels, height, width] = map.dims();
    let size = layout.size();
    assert_eq!([height, width], [size.height, size.width], "canvas_rows: height and width of the canvas");
    assert!(values > 0 && channels.is_multiple_of(values), "canvas_rows: {values} values in {channels} channels");
    Tensor::from_dispatch(<Dispatch as CanvasOps>::canvas_rows(map.into_dispatch(), plan(layout), values))
}

/// Returns the maps of a canvas, `[batch, channels, height, width]` for each level. The canvas receives gradients.
///
/// # Panics
/// If the map does not have the height and the width of the layout.
pub fn canvas_maps(map: &Tensor<4>, layout: &CanvasLayout) -> Vec<Tensor<4>> {
    let ([_, _, height, width], size) = (map.dims(), layout.size());
    assert_eq!([height, width], [size.height, size.width], "canvas_maps: height and width of the canvas");
    layout.places().iter().map(|place| map.clone().slice(place.slices())).collect()
}

fn plan(layout: &CanvasLayout) -> Plan {
    Plan {
        layout: layout.clone(),
        #[cfg(feature = "wgpu")]
        reference: crate::reference(),
    }
}

/// The shape of a map of a canvas, or that of an unused tensor beyond the last level.
fn map_shape(layout: &CanvasLayout, level: usize, batch: usize, channels: usize) -> Shape {
    match layout.places().get(level) {
        Some(place) => Shape::from([batch, channels, place.size.height, place.size.width]),
        None => Shape::from([1; 4]),
    }
}

#[cfg(test)]
mod tests;
