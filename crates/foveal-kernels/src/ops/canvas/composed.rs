//! The operations of canvases in Burn's operations.
use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Slice};

use super::CanvasLayout;
use super::layout::Place;

/// A canvas of zeros like `x`.
fn zeros<B: Backend>(x: &FloatTensor<B>, batch: usize, channels: usize, layout: &CanvasLayout) -> FloatTensor<B> {
    let size = layout.size();
    B::float_zeros(Shape::from([batch, channels, size.height, size.width]), &x.device(), x.dtype().into())
}

/// Places the maps of the layout, which are the first of `maps`, in a canvas. Returns the canvas and its mask.
pub(super) fn place<B: Backend>(maps: &[FloatTensor<B>], layout: &CanvasLayout) -> (FloatTensor<B>, FloatTensor<B>) {
    let [batch, channels, _, _] = maps[0].shape().dims();
    let mut canvas = zeros::<B>(&maps[0], batch, channels, layout);
    let mut mask = zeros::<B>(&maps[0], 1, 1, layout);
    for (place, map) in layout.places().iter().zip(maps) {
        let shape = Shape::from([1, 1, place.size.height, place.size.width]);
        let ones = B::float_ones(shape, &map.device(), map.dtype().into());
        canvas = B::float_slice_assign(canvas, &place.slices(), map.clone());
        mask = B::float_slice_assign(mask, &place.slices(), ones);
    }
    (canvas, mask)
}

/// The map of each level of a canvas.
pub(super) fn split<B: Backend>(canvas: &FloatTensor<B>, layout: &CanvasLayout) -> Vec<FloatTensor<B>> {
    layout.places().iter().map(|place| B::float_slice(canvas.clone(), &place.slices())).collect()
}

/// The values of all anchors of a canvas.
pub(super) fn rows<B: Backend>(canvas: &FloatTensor<B>, layout: &CanvasLayout, values: usize) -> FloatTensor<B> {
    let [batch, channels, _, _] = canvas.shape().dims();
    let each = split::<B>(canvas, layout).into_iter().zip(layout.places()).map(|(map, place)| {
        let anchors = place.pixels() * (channels / values);
        B::float_reshape(B::float_permute(map, &[0, 2, 3, 1]), Shape::from([batch, anchors, values]))
    });
    B::float_cat(each.collect(), 1)
}

/// A canvas of `channels` channels from the values of all anchors, with zeros between the levels.
pub(super) fn from_rows<B: Backend>(rows: &FloatTensor<B>, layout: &CanvasLayout, channels: usize) -> FloatTensor<B> {
    let [batch, _, values] = rows.shape().dims();
    let per_location = channels / values;
    let mut canvas = zeros::<B>(rows, batch, channels, layout);
    for place in layout.places() {
        let Place { size, first, .. } = *place;
        let anchors = first * per_location..(first + place.pixels()) * per_location;
        let of_level = B::float_slice(rows.clone(), &[Slice::full(), Slice::from(anchors), Slice::full()]);
        let map = B::float_reshape(of_level, Shape::from([batch, size.height, size.width, channels]));
        canvas = B::float_slice_assign(canvas, &place.slices(), B::float_permute(map, &[0, 3, 1, 2]));
    }
    canvas
}
