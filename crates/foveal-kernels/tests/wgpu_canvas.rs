//! Canvases on wgpu against flex. Both copy values, so they must be equal bit for bit.
//!
//! Without an adapter these tests fail; `scripts/swiftshader` sets up a software one.
#![cfg(feature = "wgpu")]

mod common;

use burn::tensor::{DType, Device, FloatDType, Tensor};
use common::*;
use foveal_kernels::*;

/// Two anchors with three values each.
const CHANNELS: usize = 6;
const VALUES: usize = 3;
/// Heights and widths of one to five levels. The last ones have more values than a workgroup has units.
const PYRAMIDS: [&[[usize; 2]]; 4] =
    [&[[3, 2]], &[[4, 6], [2, 3]], &[[3, 9], [2, 5], [1, 3], [1, 2]], &[[16, 12], [8, 6], [4, 3], [2, 2], [1, 1]]];

/// Canvas, mask, rows and the gradients of the levels. Every second level has the channels last in memory, and so have
/// the gradients of the rows their values first.
fn results(sizes: &[[usize; 2]], maps: DType, device: &Device) -> Vec<Vec<f32>> {
    let leaves: Vec<Tensor<4>> = (0u64..)
        .zip(sizes)
        .map(|(level, &[height, width])| match level % 2 {
            0 => leaf(level, [2, height, width, CHANNELS], device, true),
            _ => leaf(level, [2, CHANNELS, height, width], device, true),
        })
        .collect();
    let levels: Vec<Tensor<4>> = leaves
        .iter()
        .enumerate()
        .map(|(level, leaf)| {
            let map = leaf.clone().cast(maps);
            if level % 2 == 0 { map.permute([0, 3, 1, 2]) } else { map }
        })
        .collect();
    let Canvas { map, mask, layout } = canvas(&levels);
    assert_eq!((map.dtype(), mask.dtype()), (maps, maps));
    let rows = canvas_rows(map.clone(), &layout, VALUES);
    let values = [map, mask].map(|t| to_vec(t.cast(FloatDType::F32)));
    let turned = rows.swap_dims(1, 2).cast(FloatDType::F32);
    [values.to_vec(), with_grads(turned, leaves.iter().map(grad_of).collect())].concat()
}

fn check(maps: DType) {
    let _guard = fused_kernels();
    let (gpu, cpu) = (test_adapter().autodiff(), Device::flex().autodiff());
    if !gpu.supports_dtype(maps) {
        eprintln!("SKIPPED: this adapter has no {maps:?} numbers");
        return;
    }
    for sizes in PYRAMIDS {
        let expected = results(sizes, maps, &cpu);
        assert_eq!(expected.len(), 3 + sizes.len());
        assert_eq!(results(sizes, maps, &gpu), expected, "{sizes:?}");
        set_reference(true);
        let reference = results(sizes, maps, &gpu);
        set_reference(false);
        assert_eq!(reference, expected, "{sizes:?} in Burn's operations");
    }
}

#[test]
fn canvases_on_wgpu_are_those_of_the_cpu() {
    check(DType::F32);
}

#[test]
fn canvases_of_16_bits_on_wgpu_are_those_of_the_cpu() {
    check(DType::F16);
}
