//! The operations of canvases on a GPU, by kernels written in CubeCL. They read through strides and write canvases and
//! maps with the channels last in memory, as the convolutions do.
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{DType, Shape};
use cubecl::calculate_cube_count_elemwise;
use cubecl::client::Client;
use cubecl::prelude::{CubeCount, CubeDim, SequenceArg};

use super::kernel::{self, PlaceLaunch};
use super::{CANVAS_LEVELS, CanvasLayout};

/// Number of units of a workgroup, which every adapter supports.
const UNITS: u32 = 256;

/// Whether the kernels copy values of this type.
pub(super) fn has_kernel(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16)
}

/// Workgroups with at least `count` units.
fn units(client: &Client, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(UNITS);
    (calculate_cube_count_elemwise(client, count, dim), dim)
}

/// A new tensor in row-major order with arbitrary values, of the data type of `like`.
fn empty<const D: usize>(like: &CubeTensor, dims: [usize; D]) -> CubeTensor {
    let shape = Shape::from(dims);
    let handle = like.client.empty(shape.num_elements().max(1) * like.dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, like.dtype)
}

/// `[batch, height, width, channels]` seen as `[batch, channels, height, width]`.
fn channels_first(x: CubeTensor) -> CubeTensor {
    CubeBackend::float_permute(x, &[0, 3, 1, 2])
}

/// The places as the kernels read them. Levels beyond the last one have no pixels.
fn places(layout: &CanvasLayout) -> SequenceArg<kernel::Place> {
    let mut places = SequenceArg::new();
    for level in 0..CANVAS_LEVELS {
        places.push(match layout.places().get(level) {
            Some(place) => PlaceLaunch::new(place.top, place.left, place.size.height, place.size.width, place.first),
            None => PlaceLaunch::new(0, 0, 0, 1, layout.map_pixels()),
        });
    }
    places
}

/// Places the maps in a canvas. Returns the canvas and its mask.
pub(super) fn place(maps: [CubeTensor; CANVAS_LEVELS], layout: &CanvasLayout) -> (CubeTensor, CubeTensor) {
    let [batch, channels, _, _] = maps[0].shape().dims();
    let size = layout.size();
    let canvas = empty(&maps[0], [batch, size.height, size.width, channels]);
    let mask = empty(&maps[0], [1, 1, size.height, size.width]);
    let (client, dtype) = (maps[0].client.clone(), maps[0].dtype);
    let total = batch * layout.pixels() * channels;
    if total > 0 {
        let (count, dim) = units(&client, total);
        let [m0, m1, m2, m3, m4] = maps.map(CubeTensor::into_tensor_arg);
        // SAFETY: a unit below `total` writes its value of the canvas, and one below the pixels of the canvas the mask.
        // It reads a map at a pixel that lies in the map's place, which has the size of the map.
        unsafe {
            kernel::assemble::launch_unchecked(
                &client,
                count,
                dim,
                m0,
                m1,
                m2,
                m3,
                m4,
                canvas.clone().into_buffer_arg(),
                mask.clone().into_buffer_arg(),
                places(layout),
                channels,
                size.height,
                size.width,
                total,
                dtype_to_storage_type(dtype),
            );
        }
    }
    (channels_first(canvas), mask)
}

/// The maps of the levels of a canvas. Beyond the last level there is a single number without meaning.
pub(super) fn split(canvas: CubeTensor, layout: &CanvasLayout) -> [CubeTensor; CANVAS_LEVELS] {
    let [batch, channels, _, _] = canvas.shape().dims();
    let maps: [CubeTensor; CANVAS_LEVELS] = std::array::from_fn(|level| match layout.places().get(level) {
        Some(place) => empty(&canvas, [batch, place.size.height, place.size.width, channels]),
        None => empty(&canvas, [1; 4]),
    });
    let (client, dtype) = (canvas.client.clone(), canvas.dtype);
    let total = batch * layout.map_pixels() * channels;
    if total > 0 {
        let (count, dim) = units(&client, total);
        let [m0, m1, m2, m3, m4] = maps.each_ref().map(|map| map.clone().into_buffer_arg());
        // SAFETY: a unit below `total` has an image below `batch` and a pixel of one level. It reads the canvas at that
        // pixel's place and writes the map of the level, which has `batch` times its pixels times `channels` values.
        unsafe {
            kernel::split::launch_unchecked(
                &client,
                count,
                dim,
                canvas.into_tensor_arg(),
                m0,
                m1,
                m2,
                m3,
                m4,
                places(layout),
                channels,
                layout.map_pixels(),
                total,
                dtype_to_storage_type(dtype),
            );
        }
    }
    maps.map(channels_first)
}

/// The values of all anchors, `[batch, anchors, values]`.
pub(super) fn rows(canvas: CubeTensor, layout: &CanvasLayout, values: usize) -> CubeTensor {
    let [batch, channels, _, _] = canvas.shape().dims();
    let rows = empty(&canvas, [batch, layout.map_pixels() * (channels / values), values]);
    let (client, dtype) = (canvas.client.clone(), canvas.dtype);
    let total = batch * layout.map_pixels() * channels;
    if total > 0 {
        let (count, dim) = units(&client, total);
        // SAFETY: a unit below `total` writes its value of the rows, which have `total` values. It reads the canvas at
        // the place of a pixel of one level, of an image below `batch` and a channel below `channels`.
        unsafe {
            kernel::rows::launch_unchecked(
                &client,
                count,
                dim,
                canvas.into_tensor_arg(),
                rows.clone().into_buffer_arg(),
                places(layout),
                channels,
                layout.map_pixels(),
                total,
                dtype_to_storage_type(dtype),
            );
        }
    }
    rows
}

/// A canvas of `channels` channels from the values of all anchors, with zeros between the levels.
pub(super) fn from_rows(rows: CubeTensor, layout: &CanvasLayout, channels: usize) -> CubeTensor {
    let [batch, _, values] = rows.shape().dims();
    let size = layout.size();
    let canvas = empty(&rows, [batch, size.height, size.width, channels]);
    let (client, dtype) = (rows.client.clone(), rows.dtype);
    let total = batch * layout.pixels() * channels;
    if total > 0 {
        let (count, dim) = units(&client, total);
        // SAFETY: a unit below `total` writes its value of the canvas. It reads the rows at an image below `batch`, and
        // at an anchor and a value of a pixel that lies in the place of a level.
        unsafe {
            kernel::from_rows::launch_unchecked(
                &client,
                count,
                dim,
                rows.into_tensor_arg(),
                canvas.clone().into_buffer_arg(),
                places(layout),
                channels,
                values,
                size.height,
                size.width,
                total,
                dtype_to_storage_type(dtype),
            );
        }
    }
    channels_first(canvas)
}
