//! Canvases on the CPU backends, by Burn's operations, against the maps one by one.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

use burn::tensor::{DType, Device, FloatDType, Tensor};

use super::*;
use crate::test_common::{grad_of, leaf, to_vec, with_grads};

/// Heights and widths of two to five levels, of which one is higher than wide.
const PYRAMIDS: [&[[usize; 2]]; 4] = [
    &[[4, 6], [2, 3]],
    &[[5, 3], [3, 2], [2, 1]],
    &[[3, 9], [2, 5], [1, 3], [1, 2]],
    &[[8, 8], [4, 4], [2, 2], [1, 1], [1, 1]],
];
const BATCH: usize = 2;
/// Two anchors with three values each.
const CHANNELS: usize = 6;
const VALUES: usize = 3;

/// The levels as leaves.
fn levels(sizes: &[[usize; 2]], device: &Device) -> Vec<Tensor<4>> {
    let map = |(level, [height, width]): (usize, &[usize; 2])| {
        leaf(level as u64, [BATCH, CHANNELS, *height, *width], device, true)
    };
    sizes.iter().enumerate().map(map).collect()
}

/// The rows and the gradients of the levels by way of a canvas, with maps of this data type.
fn by_canvas(sizes: &[[usize; 2]], maps: DType, device: &Device) -> Vec<Vec<f32>> {
    let levels = levels(sizes, device);
    let cast: Vec<_> = levels.iter().map(|map| map.clone().cast(maps)).collect();
    let Canvas { map, layout, .. } = canvas(&cast);
    assert_eq!(map.dtype(), maps);
    let rows = canvas_rows(map, &layout, VALUES).cast(FloatDType::F32);
    with_grads(rows, levels.iter().map(grad_of).collect())
}

/// The rows and the gradients of the levels, each taken from its map.
fn by_level(sizes: &[[usize; 2]], maps: DType, device: &Device) -> Vec<Vec<f32>> {
    let levels = levels(sizes, device);
    let rows = levels.iter().map(|map| {
        let [batch, channels, height, width] = map.dims();
        let rows = map.clone().cast(maps).permute([0, 2, 3, 1]);
        rows.reshape([batch, height * width * channels / VALUES, VALUES])
    });
    let rows = Tensor::cat(rows.collect(), 1).cast(FloatDType::F32);
    with_grads(rows, levels.iter().map(grad_of).collect())
}

#[test]
fn rows_and_gradients_of_a_canvas_are_those_of_its_maps() {
    for sizes in PYRAMIDS {
        for device in [Device::flex().autodiff(), Device::ndarray().autodiff()] {
            assert_eq!(by_canvas(sizes, DType::F32, &device), by_level(sizes, DType::F32, &device), "{sizes:?}");
        }
        let device = Device::flex().autodiff();
        assert_eq!(by_canvas(sizes, DType::F16, &device), by_level(sizes, DType::F16, &device), "{sizes:?}");
    }
}

#[test]
fn a_canvas_holds_its_maps_and_zeros() {
    for sizes in PYRAMIDS {
        let maps = levels(sizes, &Device::flex().autodiff());
        let Canvas { map, mask, layout } = canvas(&maps);
        for (found, expected) in canvas_maps(&map, &layout).into_iter().zip(&maps) {
            assert_eq!(to_vec(found), to_vec(expected.clone()));
        }
        let ones = to_vec(mask.clone()).iter().filter(|v| **v == 1.0).count();
        let zeros = to_vec(mask.clone()).iter().filter(|v| **v == 0.0).count();
        assert_eq!((ones, ones + zeros), (layout.map_pixels(), layout.pixels()));
        assert_eq!(to_vec(map.clone() * mask), to_vec(map), "all pixels without a level are 0");
    }
}

#[test]
fn only_the_maps_that_learn_receive_gradients() {
    let device = Device::flex().autodiff();
    let maps = [leaf::<4>(1, [1, 2, 4, 4], &device, false), leaf(2, [1, 2, 2, 2], &device, true)];
    let Canvas { map, mask, layout } = canvas(&maps);
    assert!(!mask.is_require_grad());
    let rows = canvas_rows(map, &layout, 1);
    assert_eq!(with_grads(rows, maps.iter().map(grad_of).collect()).len(), 2, "rows and one gradient");
    // Without gradients nothing is recorded.
    let constant = [leaf::<4>(1, [1, 2, 4, 4], &device, false), leaf(2, [1, 2, 2, 2], &device, false)];
    let plain = canvas(&constant);
    assert_eq!(canvas_rows(plain.map, &plain.layout, 2).dims(), [1, 20, 2]);
}
