//! Gradient norm, optimizer steps and moving average on wgpu equal those on the CPU.
//!
//! Without an adapter the test fails, as the wgpu tests of the kernels do; `scripts/swiftshader` sets up a software
//! adapter.
#![cfg(feature = "wgpu")]

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use foveal_train::{Clipping, Ema, Grads, Optimizer, OptimizerKind, TrainConfig, to_host};
use foveal_weights::{TensorMap, named_tensors};

/// Two weights of the same shape and a bias.
#[derive(Module, Debug)]
struct Conv {
    weight: Param<Tensor<4>>,
    other: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

/// Shape of the weights: output channels, input channels, height and width of the kernel.
const WEIGHT: [usize; 4] = [8, 4, 3, 3];

fn ramp<const D: usize>(dims: [usize; D], scale: f32, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..dims.iter().product()).map(|i: usize| ((i * 7919 % 23) as f32 - 11.0) * scale).collect();
    Tensor::from_data(TensorData::new(values, dims), device)
}

/// Factors of the weights in channels-last memory, so that the gradients of the weights lie in such memory.
fn slopes(scale: f32, device: &Device) -> Tensor<4> {
    let [o, i, h, w] = WEIGHT;
    ramp([o, h, w, i], scale, device).permute([0, 3, 1, 2])
}

impl Conv {
    fn new(device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(ramp(WEIGHT, 0.1, device)),
            other: Param::from_tensor(ramp(WEIGHT, -0.2, device)),
            bias: Param::from_tensor(ramp([8], 0.3, device)),
        }
    }

    /// The gradients of a linear loss with slopes proportional to `factor`.
    fn grads(&self, factor: f32, device: &Device) -> Grads {
        let weights = (self.weight.val() * slopes(0.05 * factor, device)).sum()
            + (self.other.val() * slopes(0.07 * factor, device)).sum();
        let loss = weights + (self.bias.val() * ramp([8], 0.01 * factor, device)).sum();
        let mut grads = Grads::default();
        grads.accumulate(self, loss.backward());
        grads
    }
}

/// Everything after three steps, and the gradient norms. The last step is not finite and changes nothing.
fn train(kind: OptimizerKind, device: &Device) -> (Vec<TensorMap>, Vec<f64>) {
    let config = TrainConfig { optimizer: kind, weight_decay: 0.1, ..TrainConfig::default() };
    let (mut model, mut optimizer) = (Conv::new(device), Optimizer::new(&config));
    let mut ema = Ema::new(0.5, &model);
    let mut norms = Vec::new();
    for factor in [1.0, 2.0, f32::NAN] {
        let mut grads = model.grads(factor, device);
        let norm = grads.norm(device);
        let loss = norm.ones_like().cast(DType::F32);
        let clipping = Clipping::new(loss, norm.clone(), 0.5);
        model = optimizer.step(model, grads, 0.1, &clipping);
        ema.update(&model, &clipping.finite);
        norms.push(norm.into_scalar());
    }
    let state = [&ema.average, &optimizer.first, &optimizer.second].map(to_host);
    ([named_tensors(&model)].into_iter().chain(state).collect(), norms)
}

#[test]
fn wgpu_updates_are_those_of_the_cpu() {
    let gpu = foveal_kernels::test_adapter().autodiff();
    for kind in [OptimizerKind::Sgd, OptimizerKind::AdamW] {
        let ((expected, norms), (found, found_norms)) = (train(kind, &Device::flex().autodiff()), train(kind, &gpu));
        for (a, b) in norms.iter().zip(&found_norms).take(2) {
            assert!((a - b).abs() <= 1e-5 * a, "{kind:?}: {norms:?} {found_norms:?}");
        }
        assert!(norms[2].is_nan() && found_norms[2].is_nan(), "{found_norms:?}");
        for (expected, found) in expected.iter().zip(&found) {
            assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
            for (name, tensor) in expected {
                let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * a.abs().max(1.0);
                assert_eq!(tensor.shape, found[name].shape);
                assert!(tensor.values.iter().zip(&found[name].values).all(close), "{kind:?} {name}");
            }
        }
    }
}
