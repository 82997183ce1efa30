//! The GPU kernels of canvases. Each unit copies one value.
use cubecl::prelude::*;

use super::CANVAS_LEVELS;

/// Place of the map of a level in a canvas.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Place {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
    /// Number of pixels of the levels before this one.
    first: usize,
}

/// Whether the pixel `(y, x)` of a canvas belongs to the level.
#[cube]
fn covers(place: &Place, y: usize, x: usize) -> bool {
    y >= place.top && y < place.top + place.height && x >= place.left && x < place.left + place.width
}

/// Whether the pixel with this number among those of all levels belongs to the level.
#[cube]
fn holds(place: &Place, pixel: usize) -> bool {
    pixel >= place.first && pixel < place.first + place.height * place.width
}

/// The value of a map `[batch, channels, height, width]`.
#[cube]
fn value_of<E: Float>(map: &Tensor<E>, image: usize, channel: usize, y: usize, x: usize) -> E {
    map[image * map.stride(0) + channel * map.stride(1) + y * map.stride(2) + x * map.stride(3)]
}

/// The value of the level's map if the pixel `(y, x)` of the canvas belongs to it, else `otherwise`.
#[cube]
#[allow(clippy::too_many_arguments)]
fn placed<E: Float>(
    map: &Tensor<E>,
    place: &Place,
    image: usize,
    channel: usize,
    y: usize,
    x: usize,
    otherwise: E,
) -> E {
    let mut value = otherwise;
    if covers(place, y, x) {
        value = value_of::<E>(map, image, channel, y - place.top, x - place.left);
    }
    value
}

/// Writes a canvas `[batch, height, width, channels]` with `total` values and its mask `[height, width]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn assemble<E: Float>(
    m0: &Tensor<E>,
    m1: &Tensor<E>,
    m2: &Tensor<E>,
    m3: &Tensor<E>,
    m4: &Tensor<E>,
    canvas: &mut [E],
    mask: &mut [E],
    places: Sequence<Place>,
    channels: usize,
    height: usize,
    width: usize,
    total: usize,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let pixel = at / channels;
        let channel = at - pixel * channels;
        let line = pixel / width;
        let x = pixel - line * width;
        let image = line / height;
        let y = line - image * height;
        let value = placed::<E>(m0, &places[0], image, channel, y, x, E::cast_from(0.0f32));
        let value = placed::<E>(m1, &places[1], image, channel, y, x, value);
        let value = placed::<E>(m2, &places[2], image, channel, y, x, value);
        let value = placed::<E>(m3, &places[3], image, channel, y, x, value);
        canvas[at] = placed::<E>(m4, &places[4], image, channel, y, x, value);
        if channel == 0 && image == 0 {
            let mut inside = 0.0f32;
            #[unroll]
            for level in 0..CANVAS_LEVELS {
                let place = &places[level];
                if covers(place, y, x) {
                    inside = 1.0f32;
                }
            }
            mask[pixel] = E::cast_from(inside);
        }
    }
}

/// Writes the value of a pixel of the level to its map `[batch, height, width, channels]`, if the pixel belongs to it.
#[cube]
#[allow(clippy::too_many_arguments)]
fn take<E: Float>(
    canvas: &Tensor<E>,
    map: &mut [E],
    place: &Place,
    image: usize,
    pixel: usize,
    channel: usize,
    channels: usize,
) {
    if holds(place, pixel) {
        let within = pixel - place.first;
        let y = within / place.width;
        let x = within - y * place.width;
        let value = value_of::<E>(canvas, image, channel, place.top + y, place.left + x);
        map[(image * place.height * place.width + within) * channels + channel] = value;
    }
}

/// Writes the map of each level, `[batch, height, width, channels]`. All levels together have `pixels` pixels and
/// `total` values.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn split<E: Float>(
    canvas: &Tensor<E>,
    m0: &mut [E],
    m1: &mut [E],
    m2: &mut [E],
    m3: &mut [E],
    m4: &mut [E],
    places: Sequence<Place>,
    channels: usize,
    pixels: usize,
    total: usize,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let row = at / channels;
        let channel = at - row * channels;
        let image = row / pixels;
        let pixel = row - image * pixels;
        take::<E>(canvas, m0, &places[0], image, pixel, channel, channels);
        take::<E>(canvas, m1, &places[1], image, pixel, channel, channels);
        take::<E>(canvas, m2, &places[2], image, pixel, channel, channels);
        take::<E>(canvas, m3, &places[3], image, pixel, channel, channels);
        take::<E>(canvas, m4, &places[4], image, pixel, channel, channels);
    }
}

/// Writes the values of the pixels of all levels, `[batch, pixels, channels]` with `total` values.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn rows<E: Float>(
    canvas: &Tensor<E>,
    rows: &mut [E],
    places: Sequence<Place>,
    channels: usize,
    pixels: usize,
    total: usize,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let row = at / channels;
        let channel = at - row * channels;
        let image = row / pixels;
        let pixel = row - image * pixels;
        let mut y = 0usize;
        let mut x = 0usize;
        #[unroll]
        for level in 0..CANVAS_LEVELS {
            let place = &places[level];
            if holds(place, pixel) {
                let within = pixel - place.first;
                let line = within / place.width;
                y = place.top + line;
                x = place.left + within - line * place.width;
            }
        }
        rows[at] = value_of::<E>(canvas, image, channel, y, x);
    }
}

/// Writes a canvas `[batch, height, width, channels]` with `total` values from the rows `[batch, anchors, values]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn from_rows<E: Float>(
    rows: &Tensor<E>,
    canvas: &mut [E],
    places: Sequence<Place>,
    channels: usize,
    values: usize,
    height: usize,
    width: usize,
    total: usize,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let pixel = at / channels;
        let channel = at - pixel * channels;
        let line = pixel / width;
        let x = pixel - line * width;
        let image = line / height;
        let y = line - image * height;
        let anchor = channel / values;
        let value = channel - anchor * values;
        let mut found = E::cast_from(0.0f32);
        #[unroll]
        for level in 0..CANVAS_LEVELS {
            let place = &places[level];
            if covers(place, y, x) {
                let within = place.first + (y - place.top) * place.width + (x - place.left);
                let row = within * (channels / values) + anchor;
                found = rows[image * rows.stride(0) + row * rows.stride(1) + value * rows.stride(2)];
            }
        }
        canvas[at] = found;
    }
}
