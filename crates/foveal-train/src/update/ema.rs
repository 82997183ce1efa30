//! Exponential moving average of the weights (`train.ema`), which evaluations and checkpoints use.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Tensor};
use foveal_weights::ParamPath;
use rayon::prelude::*;

use super::params::{FlatTensors, flat, flat_tensors, with_slice};
use crate::device::is_host;

/// Number of elements that a thread processes at once. The average is elementwise, so results do not depend on it.
const CHUNK: usize = 1 << 14;

/// An exponential moving average of all floating-point tensors of a module, including the running statistics of batch
/// norms.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    /// The averages by parameter path, each flattened to `[elements]`.
    pub average: FlatTensors,
    /// Number of updates of the average made so far.
    pub updates: u64,
}

impl Ema {
    /// An average that starts at the current weights of `module`. `decay` is from 0 to below 1.
    pub fn new<M: Module>(decay: f64, module: &M) -> Self {
        Self { decay, average: flat_tensors(module, |_| true), updates: 0 }
    }

    /// Updates the average with the weights of `module`: `average += (1 - d) * (weights - average)`.
    ///
    /// In update `n`, counted from 1, `d` is the smaller of the decay and `(1 + n) / (10 + n)`, so that the initial
    /// weights are soon forgotten (the rule of TensorFlow's `ExponentialMovingAverage` with `num_updates`). If `finite`
    /// is false, only the count of updates changes.
    ///
    /// # Shapes
    /// - finite: `[1]`, on the device of the weights
    pub fn update<M: Module>(&mut self, module: &M, finite: &Tensor<1, Bool>) {
        self.updates += 1;
        let n = self.updates as f64;
        let share = 1.0 - self.decay.min((1.0 + n) / (10.0 + n));
        // `valid` first applies pending updates of the running statistics, which a visit would not see.
        module.valid().visit(&mut UpdateAverages {
            path: ParamPath::default(),
            average: &mut self.average,
            share,
            finite,
        });
    }

    /// A copy of `module` without autodiff whose weights are replaced by their averages. Tensors without an average are
    /// kept.
    pub fn apply<M: Module>(&self, module: &M) -> M {
        module.valid().map(&mut ReplaceWeights { path: ParamPath::default(), average: &self.average })
    }
}

struct UpdateAverages<'a> {
    path: ParamPath,
    average: &'a mut FlatTensors,
    share: f64,
    finite: &'a Tensor<1, Bool>,
}

impl ModuleVisitor for UpdateAverages<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.name();
        let value = flat(param.val());
        let average = match self.average.remove(&path) {
            None => value,
            Some(average) if is_host(&average.device()) => update_slice(average, value, self.share, self.finite),
            Some(average) => update_tensor(average, value, self.share, self.finite),
        };
        self.average.insert(path, average);
    }
}

/// Updates an average in host memory in one pass, without a copy if no other tensor shares its memory.
fn update_slice(average: Tensor<1>, value: Tensor<1>, share: f64, finite: &Tensor<1, Bool>) -> Tensor<1> {
    // The tensor lies in host memory, so no device is waited for.
    if !finite.clone().into_scalar::<bool>() {
        return average;
    }
    let value = value.into_data();
    let value = value.as_slice::<f32>().expect("parameters are f32");
    let share = share as f32;
    with_slice(average, |average| {
        let chunks = average.par_chunks_mut(CHUNK).zip(value.par_chunks(CHUNK));
        chunks.for_each(|(a, v)| a.iter_mut().zip(v).for_each(|(a, v)| *a += share * (v - *a)));
    })
}

/// Updates an average by tensor operations, without reading from the device.
fn update_tensor(average: Tensor<1>, value: Tensor<1>, share: f64, finite: &Tensor<1, Bool>) -> Tensor<1> {
    let new = average.clone() + (value - average.clone()) * share;
    let mask = finite.clone().expand(average.dims());
    average.mask_where(mask, new)
}

struct ReplaceWeights<'a> {
    path: ParamPath,
    average: &'a FlatTensors,
}

impl ModuleMapper for ReplaceWeights<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.average.get(&self.path.name()) {
            Some(average) => param.map(|tensor| average.clone().reshape(tensor.shape())),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::as_accelerator;
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct One {
        weight: Param<Tensor<1>>,
    }

    fn one(value: f32, device: &Device) -> One {
        One { weight: Param::from_tensor(Tensor::from_floats([value], device)) }
    }

    fn flag(loss: f32) -> Tensor<1, Bool> {
        Tensor::<1>::from_floats([loss], &Device::flex()).is_finite()
    }

    fn value(model: &One) -> f32 {
        model.weight.val().into_scalar()
    }

    #[test]
    fn the_average_follows_with_a_rising_decay() {
        let device = Device::flex().autodiff();
        let mut ema = Ema::new(0.5, &one(1.0, &device));
        assert_eq!(value(&ema.apply(&one(7.0, &device))), 1.0);
        let mut expected = 1.0;
        for n in 1..=20 {
            let n = f64::from(n);
            let decay = ((1.0 + n) / (10.0 + n)).min(0.5);
            expected = decay * expected + (1.0 - decay) * 3.0;
            ema.update(&one(3.0, &device), &flag(1.0));
        }
        assert!((f64::from(value(&ema.apply(&one(7.0, &device)))) - expected).abs() < 1e-6);
    }

    #[test]
    fn slices_and_tensors_agree_and_a_mask_holds() {
        let device = Device::flex().autodiff();
        let run = |loss: f32| {
            let mut ema = Ema::new(0.9, &one(1.0, &device));
            for _ in 0..3 {
                ema.update(&one(2.0, &device), &flag(loss));
            }
            value(&ema.apply(&one(0.0, &device)))
        };
        let (slices, tensors) = (run(1.0), as_accelerator(|| run(1.0)));
        assert!((slices - tensors).abs() < 1e-6 && slices > 1.0, "{slices} {tensors}");
        assert_eq!([run(f32::INFINITY), as_accelerator(|| run(f32::INFINITY))], [1.0, 1.0]);
    }
}
