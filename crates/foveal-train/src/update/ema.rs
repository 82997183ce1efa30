//! Exponential moving average of the weights (`train.ema`), which evaluations and checkpoints use.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DispatchTensor, Tensor};
use foveal_kernels::{has_update_kernels, update_averages};
use foveal_weights::ParamPath;
use rayon::prelude::*;

use super::broadcast::Broadcast;
use super::params::{ParamTensor, ParamTensors, param_tensors, with_slice};
use crate::device::is_host;

/// Number of elements that a thread processes at once. The average is elementwise, so results do not depend on it.
const CHUNK: usize = 1 << 14;

/// An exponential moving average of all floating-point tensors of a module, including the running statistics of batch
/// norms.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    /// The averages by parameter path, each of the shape of its parameter.
    pub average: ParamTensors,
    /// Number of updates of the average made so far.
    pub updates: u64,
}

impl Ema {
    /// An average that starts at the current weights of `module`. `decay` is from 0 to below 1.
    pub fn new<M: Module>(decay: f64, module: &M) -> Self {
        Self { decay, average: param_tensors(module, |_| true), updates: 0 }
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
        let _ = module.valid();
        let mut visit = UpdateAverages {
            path: ParamPath::default(),
            average: &mut self.average,
            share,
            finite: Broadcast::new(finite),
            trained_layer: String::new(),
            pending: Vec::new(),
        };
        module.visit(&mut visit);
        let UpdateAverages { pending, .. } = visit;
        if !pending.is_empty() {
            let (paths, pairs): (Vec<String>, Vec<_>) = pending.into_iter().unzip();
            let averages = update_averages(pairs, share as f32, finite.clone());
            self.average.extend(paths.into_iter().zip(averages.into_iter().map(ParamTensor::from_dispatch)));
        }
    }

    /// A copy of `module` without autodiff whose weights are replaced by their averages. Tensors without an average are
    /// kept.
    pub fn apply<M: Module>(&self, module: &M) -> M {
        module.valid().map(&mut ReplaceWeights { path: ParamPath::default(), average: &self.average })
    }
}

struct UpdateAverages<'a> {
    path: ParamPath,
    average: &'a mut ParamTensors,
    share: f64,
    finite: Broadcast<Bool>,
    /// Path of the last visited layer with a trained parameter, without the name of the parameter.
    trained_layer: String,
    /// The averages with their values that foveal's GPU kernels update at once afterwards, with their paths.
    pending: Vec<(String, (DispatchTensor, DispatchTensor))>,
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
        let layer = path.rsplit_once('.').map_or("", |(layer, _)| layer);
        if param.is_require_grad() {
            layer.clone_into(&mut self.trained_layer);
        }
        let value = param.val().without_autodiff();
        let average = match self.average.remove(&path).map(ParamTensor::into_rank::<D>) {
            None => value,
            Some(average) if is_host(&average.device()) => {
                update_slice(average, value, self.share, self.finite.of_rank())
            }
            // A layer without trained parameters does not change and equals its average. The running statistics of a
            // trained norm are visited after its weight.
            Some(average) if layer != self.trained_layer => average,
            Some(average) if [&average, &value].into_iter().all(has_kernels) => {
                self.pending.push((path, (average.into_dispatch(), value.into_dispatch())));
                return;
            }
            Some(average) => update_tensor(average, value, self.share, self.finite.of_rank()),
        };
        self.average.insert(path, ParamTensor::new(average));
    }
}

fn has_kernels<const D: usize>(tensor: &Tensor<D>) -> bool {
    has_update_kernels(&tensor.clone().into_dispatch())
}

/// Updates an average in host memory in one pass, without a copy if no other tensor shares its memory.
///
/// # Shapes
/// - finite: one element
fn update_slice<const D: usize>(
    average: Tensor<D>,
    value: Tensor<D>,
    share: f64,
    finite: Tensor<1, Bool>,
) -> Tensor<D> {
    // The tensor lies in host memory, so no device is waited for.
    if !finite.into_scalar::<bool>() {
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

/// Updates an average by tensor operations that Burn fuses into one kernel, without reading from the device.
///
/// # Shapes
/// - finite: one element
fn update_tensor<const D: usize>(
    average: Tensor<D>,
    value: Tensor<D>,
    share: f64,
    finite: Tensor<D, Bool>,
) -> Tensor<D> {
    let new = average.clone() + (value - average.clone()) * share;
    average.mask_where(finite, new)
}

struct ReplaceWeights<'a> {
    path: ParamPath,
    average: &'a ParamTensors,
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
            Some(average) => param.map(|_| average.clone().into_rank()),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::as_accelerator;
    use burn::tensor::Device;
    use foveal_nn::{NORM_EPS, Norm, NormKind};
    use foveal_weights::named_tensors;

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

    /// A norm with parameters that are not trained, and one with trained parameters and running statistics.
    #[derive(Module, Debug)]
    struct Norms {
        frozen: Norm,
        trained: Norm,
    }

    #[test]
    fn untrained_tensors_stay_and_running_statistics_follow() {
        let device = Device::flex().autodiff();
        let run = || {
            let norms = Norms {
                frozen: Norm::new(2, NormKind::Frozen, NORM_EPS, &device),
                trained: Norm::new(2, NormKind::Batch, NORM_EPS, &device),
            };
            let mut ema = Ema::new(0.5, &norms);
            let mean = norms.trained.running_mean.as_ref().unwrap();
            for _ in 0..3 {
                mean.update(Tensor::from_floats([4.0, -8.0], &device));
                ema.update(&norms, &flag(1.0));
            }
            named_tensors(&ema.apply(&norms))
        };
        let (slices, tensors) = (run(), as_accelerator(run));
        assert_eq!(slices.keys().collect::<Vec<_>>(), tensors.keys().collect::<Vec<_>>());
        for (name, tensor) in &slices {
            let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
            assert!(
                tensor.values.iter().zip(&tensors[name].values).all(close),
                "{name} {tensor:?} {:?}",
                tensors[name]
            );
        }
        assert_eq!(tensors["frozen.running_var"].values, [1.0, 1.0]);
        let mean = &tensors["trained.running_mean"].values;
        assert!(mean[0] > 3.0 && mean[1] < -6.0, "{mean:?}");
    }
}
