//! The GPU kernels of the gradient norm, clipping, parameter updates and moving averages against values computed here.
//!
//! Without an adapter these tests fail; `scripts` sets up a software one.
#![cfg(feature = "wgpu")]

mod common;

use burn::tensor::{Bool, Device, DeviceKind, DispatchTensor, Tensor, TensorData};
use common::{tensor, to_vec, values};
use foveal_kernels::*;

/// Relative tolerance of the updates, which covers the rounding of a few operations in `f32`.
const ROUNDING: f32 = 2e-6;

/// The default adapter, after a trial.
fn wgpu() -> Device {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let trial = std::panic::catch_unwind(|| to_vec(Tensor::<1>::ones([1], &device) + 1.0));
    assert!(trial.is_ok_and(|v| v == [2.0]), "no usable wgpu adapter: install one, or point VK_ICD_FILENAMES at one");
    device
}

/// A tensor of the shape of a parameter on the GPU, and its values in row-major order.
///
/// The dimensions are output channels, input channels, height and width. `channels_last` is whether the input channels
/// lie last in memory, as in the gradient of a convolution's weight.
fn placed(dims: [usize; 4], host: &[f32], channels_last: bool, device: &Device) -> DispatchTensor {
    let plain = Tensor::<4>::from_data(TensorData::new(host.to_vec(), dims), &Device::flex());
    if !channels_last {
        return Tensor::<4>::from_data(plain.into_data(), device).into_dispatch();
    }
    let rows = plain.permute([0, 2, 3, 1]).into_data();
    Tensor::<4>::from_data(rows, device).permute([0, 3, 1, 2]).into_dispatch()
}

fn read(tensor: DispatchTensor) -> Vec<f32> {
    to_vec(Tensor::<4>::from_dispatch(tensor))
}

/// Shapes of parameters, more of them than one kernel takes. Not all lengths are divisible by 4, and one is 1.
fn shapes() -> Vec<[usize; 4]> {
    let some = [[8, 4, 3, 3], [5, 3, 1, 1], [1, 1, 1, 1], [7, 1, 1, 1], [2, 600, 1, 1], [3, 5, 3, 1], [1, 9, 2, 2]];
    some.into_iter().cycle().take(71).collect()
}

fn length(dims: &[usize; 4]) -> usize {
    dims.iter().product()
}

fn flag(value: bool, device: &Device) -> Tensor<1, Bool> {
    Tensor::from_data([value], device)
}

fn one(value: f32, device: &Device) -> Tensor<1> {
    Tensor::from_floats([value], device)
}

/// A parameter with its state, all values on the host, and how it is updated.
#[derive(Clone)]
struct Expected {
    dims: [usize; 4],
    param: Vec<f32>,
    first: Vec<f32>,
    second: Option<Vec<f32>>,
    gradient: Vec<f32>,
    rate: f32,
    decay: f32,
}

/// Parameters of all shapes with different rates and decays. Every third has no decay. Values are up to `scale`.
fn parameters(rule: UpdateRule, scale: f32) -> Vec<Expected> {
    let adam = matches!(rule, UpdateRule::AdamW { .. });
    let of = |(i, dims): (usize, [usize; 4])| {
        let list = |part: u64| -> Vec<f32> {
            values(4 * i as u64 + part, length(&dims)).into_iter().map(|v| v * scale).collect()
        };
        let none = if adam { 1.0 } else { 0.0 };
        let decay = match i % 3 {
            0 => none,
            _ if adam => 0.99,
            _ => 0.05,
        };
        Expected {
            dims,
            param: list(0),
            first: list(1),
            second: adam.then(|| list(2).into_iter().map(f32::abs).collect()),
            gradient: list(3),
            rate: 0.01 * (1 + i % 5) as f32,
            decay,
        }
    };
    shapes().into_iter().enumerate().map(of).collect()
}

impl Expected {
    /// The update on the GPU. Gradient, parameter and state have channels-last memory by the bits of `layouts`.
    fn update(&self, layouts: usize, device: &Device) -> Update {
        let place = |host: &[f32], bit: usize| placed(self.dims, host, layouts >> bit & 1 == 1, device);
        let trained = Trained {
            param: place(&self.param, 1),
            first: place(&self.first, 2),
            second: self.second.as_ref().map(|second| place(second, 3)),
        };
        Update { trained, gradient: place(&self.gradient, 0), rate: self.rate, decay: self.decay }
    }

    /// Makes the update on the host.
    fn step(&mut self, rule: UpdateRule, factor: f32) {
        for i in 0..self.param.len() {
            let (p, m, g) = (&mut self.param[i], &mut self.first[i], self.gradient[i] * factor);
            match (rule, &mut self.second) {
                (UpdateRule::Sgd { momentum }, _) => {
                    *m = momentum * *m + (g + self.decay * *p);
                    *p -= self.rate * *m;
                }
                (UpdateRule::AdamW { beta2, rest, root, eps }, Some(second)) => {
                    let v = &mut second[i];
                    *m += rest[0] * (g - *m);
                    *v = beta2 * *v + rest[1] * g * g;
                    *p = *p * self.decay - self.rate * (*m / (v.sqrt() / root + eps));
                }
                (UpdateRule::AdamW { .. }, None) => unreachable!("AdamW has a second moment"),
            }
        }
    }

    fn lists(&self) -> Vec<Vec<f32>> {
        [&self.param, &self.first].into_iter().chain(&self.second).cloned().collect()
    }
}

fn lists(trained: Trained) -> Vec<Vec<f32>> {
    let Trained { param, first, second } = trained;
    [param, first].into_iter().chain(second).map(read).collect()
}

const RULES: [UpdateRule; 2] =
    [UpdateRule::Sgd { momentum: 0.9 }, UpdateRule::AdamW { beta2: 0.999, rest: [0.1, 0.001], root: 0.07, eps: 1e-6 }];

fn assert_near(what: &str, found: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() <= ROUNDING * e.abs().max(1.0), "{what}: {f} is not {e}");
        }
    }
}

fn bits(lists: &[Vec<f32>]) -> Vec<Vec<u32>> {
    lists.iter().map(|list| list.iter().map(|v| v.to_bits()).collect()).collect()
}

#[test]
fn wgpu_updates_of_many_parameters_are_those_of_the_host() {
    let device = wgpu();
    for rule in RULES {
        let mut expected = parameters(rule, 1.0);
        // All combinations of memory layouts occur.
        let updates = expected.iter().enumerate().map(|(i, e)| e.update(i, &device)).collect();
        let mut trained = update_parameters(updates, rule, one(0.5, &device), flag(true, &device));
        expected.iter_mut().for_each(|e| e.step(rule, 0.5));
        // The second update continues with the results of the first, which have the layouts of the gradients.
        let second = |(i, (e, trained)): (usize, (&Expected, Trained))| {
            let gradient = placed(e.dims, &e.gradient, i & 1 == 1, &device);
            Update { trained, gradient, rate: e.rate, decay: e.decay }
        };
        let updates = expected.iter().zip(trained.drain(..)).enumerate().map(second).collect();
        trained = update_parameters(updates, rule, one(1.0, &device), flag(true, &device));
        expected.iter_mut().for_each(|e| e.step(rule, 1.0));
        for (i, (trained, expected)) in trained.into_iter().zip(&expected).enumerate() {
            assert_near(&format!("{rule:?}, parameter {i}"), &lists(trained), &expected.lists());
        }
    }
}

#[test]
fn wgpu_updates_that_are_not_finite_change_no_bit() {
    let device = wgpu();
    for rule in RULES {
        let mut expected = parameters(rule, 1e-3);
        expected[0].gradient.fill(f32::NAN);
        expected[3].gradient[2] = f32::INFINITY;
        let updates = expected.iter().enumerate().map(|(i, e)| e.update(i, &device)).collect();
        let trained = update_parameters(updates, rule, one(0.5, &device), flag(false, &device));
        for (trained, expected) in trained.into_iter().zip(&expected) {
            assert_eq!(bits(&lists(trained)), bits(&expected.lists()), "{rule:?}");
        }
    }
}

#[test]
fn wgpu_updates_leave_tensors_unchanged_that_are_used_elsewhere() {
    let device = wgpu();
    for rule in RULES {
        let mut expected: Vec<Expected> = parameters(rule, 1.0).into_iter().take(2).collect();
        let before: Vec<_> = expected.iter().map(Expected::lists).collect();
        let updates: Vec<Update> = expected.iter().map(|e| e.update(0, &device)).collect();
        let others: Vec<Trained> = updates.iter().map(|update| update.trained.clone()).collect();
        let trained = update_parameters(updates, rule, one(1.0, &device), flag(true, &device));
        expected.iter_mut().for_each(|e| e.step(rule, 1.0));
        for (i, (trained, other)) in trained.into_iter().zip(others).enumerate() {
            assert_near("updated", &lists(trained), &expected[i].lists());
            assert_eq!(bits(&lists(other)), bits(&before[i]), "tensors that were kept");
        }
    }
}

#[test]
fn wgpu_norms_of_many_gradients_are_accurate() {
    let device = wgpu();
    // The last tensor has more elements than a workgroup sums.
    let dims: Vec<[usize; 4]> = shapes().into_iter().chain([[1, 70_001, 1, 1]]).collect();
    let host: Vec<Vec<f32>> = dims.iter().enumerate().map(|(i, d)| values(i as u64, length(d))).collect();
    let norm = |host: &[Vec<f32>]| -> f32 {
        let place = |(i, (d, h)): (usize, (&[usize; 4], &Vec<f32>))| placed(*d, h, i % 2 == 1, &device);
        l2_norm(dims.iter().zip(host).enumerate().map(place).collect()).into_scalar()
    };
    let expected = host.iter().flatten().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    let found = norm(&host);
    assert!((f64::from(found) - expected).abs() <= 1e-6 * expected, "{found} is not {expected}");
    assert_eq!(found.to_bits(), norm(&host).to_bits(), "the order of the sums is always the same");
    for (tensor, value) in [(0, f32::NAN), (70, f32::INFINITY), (71, f32::NEG_INFINITY)] {
        let mut broken = host.clone();
        *broken[tensor].last_mut().expect("a value") = value;
        assert!(!norm(&broken).is_finite(), "{value} in gradient {tensor}");
    }
    let single = l2_norm(vec![tensor::<1>(5, [3], &device).into_dispatch()]).into_scalar::<f32>();
    let expected = values(5, 3).iter().map(|v| v * v).sum::<f32>().sqrt();
    assert!((single - expected).abs() <= 1e-6 * expected, "{single} is not {expected}");
}

#[test]
fn wgpu_clipping_is_by_the_norm_and_notices_values_that_are_not_finite() {
    let device = wgpu();
    let clipped = |loss: f32, norm: f32, limit: f32| -> (f32, bool) {
        let (factor, finite) = clip(one(loss, &device), one(norm, &device), limit, 1e-6);
        (factor.into_scalar(), finite.into_scalar())
    };
    assert_eq!(clipped(1.0, 3.0, 0.0), (1.0, true));
    assert_eq!(clipped(-1.0, 3.0, 10.0), (1.0, true));
    assert_eq!(clipped(0.0, 0.0, 10.0), (1.0, true));
    let (factor, finite) = clipped(f32::MAX, 20.0, 10.0);
    assert!((factor - 0.5).abs() < 1e-6 && finite, "{factor}");
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(!clipped(broken, 3.0, 1.0).1 && !clipped(1.0, broken, 1.0).1, "{broken}");
    }
}

#[test]
fn wgpu_averages_follow_their_values() {
    let device = wgpu();
    let dims = shapes();
    let lists = |seed: u64| -> Vec<Vec<f32>> {
        dims.iter().enumerate().map(|(i, d)| values(seed + i as u64, length(d))).collect()
    };
    let (averages, weights) = (lists(1), lists(1000));
    for finite in [true, false] {
        let pair = |i: usize| {
            let place = |host: &[f32], bit: usize| placed(dims[i], host, i >> bit & 1 == 1, &device);
            (place(&averages[i], 0), place(&weights[i], 1))
        };
        let moved = update_averages((0..dims.len()).map(pair).collect(), 0.25, flag(finite, &device));
        for ((moved, average), weight) in moved.into_iter().zip(&averages).zip(&weights) {
            let follow = |(a, v): (&f32, &f32)| if finite { a + 0.25 * (v - a) } else { *a };
            let expected: Vec<f32> = average.iter().zip(weight).map(follow).collect();
            let found = read(moved);
            if finite {
                assert_near("average", &[found], &[expected]);
            } else {
                assert_eq!(bits(&[found]), bits(&[expected]));
            }
        }
    }
}

#[test]
fn wgpu_kernels_take_f32_tensors_of_a_gpu_alone() {
    use burn::tensor::DType;

    let (gpu, cpu) = (wgpu(), Device::flex());
    let takes =
        |device: &Device, dtype: DType| has_update_kernels(&Tensor::<1>::zeros([1], (device, dtype)).into_dispatch());
    assert!(takes(&gpu, DType::F32));
    assert!(!takes(&cpu, DType::F32) && !takes(&cpu, DType::F64));
    let tracked = Tensor::<1>::zeros([1], &gpu.autodiff());
    assert!(!has_update_kernels(&tracked.into_dispatch()), "a tensor with autodiff");
}
