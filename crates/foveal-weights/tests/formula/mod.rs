//! The weights and the image that scripts/reference/layouts.py computes by a formula.

use burn::tensor::{Device, Tensor, TensorData};
use foveal_weights::TensorMap;

/// Side of the image in pixels.
pub(crate) const SIDE: usize = 64;
pub(crate) const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
pub(crate) const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Fills tensors with the formula's values, which depend on the position of a tensor in the order of the names.
pub(crate) fn fill(tensors: &mut TensorMap) {
    for (t, (name, tensor)) in tensors.iter_mut().enumerate() {
        let fan_in: usize = tensor.shape[1..].iter().product();
        for (i, value) in tensor.values.iter_mut().enumerate() {
            let wave = (0.37 * i as f64 + 1.7 * t as f64).sin();
            *value = match name.rsplit('.').next() {
                _ if tensor.shape.len() == 4 => wave * (2.0 / fan_in as f64).sqrt(),
                Some("running_var") => 1.0 + 0.4 * wave,
                Some("weight") if name.contains("bn3") => 0.5 + 0.2 * wave,
                Some("weight") => 1.0 + 0.2 * wave,
                _ => 0.2 * wave,
            } as f32;
        }
    }
}

/// The image as the network's input: RGB, normalised.
pub(crate) fn image(device: &Device) -> Tensor<4> {
    let mut values = Vec::new();
    for c in 0..3 {
        for y in 0..SIDE {
            for x in 0..SIDE {
                let pixel = (37 * c + 5 * y + 3 * x + x * y % 17) % 256;
                values.push((pixel as f32 / 255.0 - MEAN[c]) / STD[c]);
            }
        }
    }
    Tensor::from_data(TensorData::new(values, [1, 3, SIDE, SIDE]), device)
}
