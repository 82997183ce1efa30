//! The heads on wgpu, where all levels are in one map, against flex, on tiny shapes: a software adapter tunes every new
//! shape for seconds.
//!
//! Without an adapter this test fails; `scripts/swiftshader` sets up a software one.
#![cfg(feature = "wgpu")]

use burn::tensor::{Device, Tensor, TensorData};
use foveal_heads::{Head, HeadConfig};
use foveal_nn::{Eager, Init};

/// Channels of the levels, classes and anchors: every layer has 4 input and 4 output channels.
const CHANNELS: usize = 4;
/// Heights and widths of the levels.
const LEVELS: [[usize; 2]; 5] = [[4, 5], [2, 3], [1, 2], [1, 1], [1, 1]];
/// Largest difference, divided by the largest value.
const TOLERANCE: f32 = 1e-5;

fn values(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((1000 * seed + i) as f32 * 12.9898).sin()).collect()
}

fn tensor<const D: usize>(seed: usize, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values(seed, shape.iter().product()), shape), device)
}

fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32 values")
}

/// Logits, deltas and the gradients of the levels, weights and biases.
fn results(device: &Device) -> Vec<Vec<f32>> {
    let config = HeadConfig { convs: 2, ..HeadConfig::default() };
    let head = Head::new(&config, CHANNELS, 1, CHANNELS, &mut Init::seeded(3), device);
    let levels: Vec<Tensor<4>> =
        (1..).zip(LEVELS).map(|(level, [h, w])| tensor(level, [2, CHANNELS, h, w], device).require_grad()).collect();
    let rows = head.forward(&mut Eager, &levels);
    let weighted = |rows: &Tensor<3>, seed| rows.clone() * tensor(seed, rows.dims(), device);
    let grads = (weighted(&rows.logits, 10) + weighted(&rows.deltas, 11)).sum().backward();
    let mut all = vec![to_vec(rows.logits), to_vec(rows.deltas)];
    all.extend(levels.iter().map(|level| to_vec(level.grad(&grads).expect("a gradient"))));
    let (class, boxes) = (&head.classification_head, &head.regression_head);
    let towers = class.conv.iter().chain(&boxes.conv).map(|layer| &layer.index0);
    for layer in towers.chain([&class.cls_logits, &boxes.bbox_reg]) {
        let bias = layer.bias.as_ref().expect("a bias").val();
        all.push(to_vec(layer.weight.val().grad(&grads).expect("a gradient")));
        all.push(to_vec(bias.grad(&grads).expect("a gradient")));
    }
    all
}

#[test]
fn heads_on_wgpu_are_those_of_the_cpu() {
    let (found, expected) = (results(&foveal_kernels::test_adapter().autodiff()), results(&Device::flex().autodiff()));
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        let off = found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(found.len() == expected.len() && off <= TOLERANCE * largest, "result {i}: {off} of {largest}");
    }
}
