//! The moving average of the weights, which is what is evaluated and kept.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Tensor};
use rayon::prelude::*;

use crate::params::{FlatTensors, flat, on_host};
use foveal_weights::ParamPath;

/// Elements a thread takes at once; the average is elementwise.
const CHUNK: usize = 1 << 14;

/// A moving average of all floating-point tensors of a module, statistics of norms included.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    on_host: bool,
    /// The averages.
    pub average: FlatTensors,
    /// Updates made.
    pub updates: u64,
}

impl Ema {
    /// An average that starts as the module is.
    pub fn new<M: Module>(decay: f64, module: &M, device: &Device) -> Self {
        let mut ema = Self { decay, on_host: crate::device::is_host(device), average: FlatTensors::new(), updates: 0 };
        ema.visit(module, None);
        ema.updates = 0;
        ema
    }

    /// One update: `average += (1 - d) (weights - average)`, with d rising as `(1 + n) / (10 + n)` up to the decay,
    /// so that the first weights are soon forgotten (the rule of TensorFlow's `ExponentialMovingAverage`).
    /// Where `finite` is given and false, nothing changes.
    pub fn update<M: Module>(&mut self, module: &M, finite: Option<&Tensor<1, Bool>>) {
        self.visit(module, finite);
    }

    fn visit<M: Module>(&mut self, module: &M, finite: Option<&Tensor<1, Bool>>) {
        self.updates += 1;
        let n = self.updates as f64;
        let share = 1.0 - self.decay.min((1.0 + n) / (10.0 + n));
        // `valid` brings running statistics up to date first: an update in flight is not visited.
        module.valid().visit(&mut Average { path: ParamPath::default(), ema: self, share, finite });
    }

    /// A copy of the module, without autodiff, that has the averages for its weights.
    pub fn apply<M: Module>(&self, module: &M) -> M {
        module.valid().map(&mut Fill { path: ParamPath::default(), average: &self.average })
    }
}

struct Average<'a> {
    path: ParamPath,
    ema: &'a mut Ema,
    share: f64,
    finite: Option<&'a Tensor<1, Bool>>,
}

impl ModuleVisitor for Average<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.name();
        let value = flat(param.val());
        let average = match self.ema.average.remove(&path) {
            None => value,
            Some(average) if self.ema.on_host => {
                let value = value.into_data();
                let value = value.as_slice::<f32>().expect("parameters are f32");
                let share = self.share as f32;
                on_host(average, |average| {
                    let chunks = average.par_chunks_mut(CHUNK).zip(value.par_chunks(CHUNK));
                    chunks.for_each(|(a, v)| a.iter_mut().zip(v).for_each(|(a, v)| *a += share * (v - *a)));
                })
            }
            Some(average) => {
                let new = average.clone() + (value - average.clone()) * self.share;
                match self.finite {
                    Some(finite) => {
                        let mask = finite.clone().expand(average.dims());
                        average.mask_where(mask, new)
                    }
                    None => new,
                }
            }
        };
        self.ema.average.insert(path, average);
    }
}

struct Fill<'a> {
    path: ParamPath,
    average: &'a FlatTensors,
}

impl ModuleMapper for Fill<'_> {
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

    #[derive(Module, Debug)]
    struct One {
        weight: Param<Tensor<1>>,
    }

    fn one(value: f32, device: &Device) -> One {
        One { weight: Param::from_tensor(Tensor::from_floats([value], device)) }
    }

    fn value(model: &One) -> f32 {
        model.weight.val().into_scalar()
    }

    #[test]
    fn the_average_follows_with_a_rising_decay() {
        let device = Device::flex().autodiff();
        let mut ema = Ema::new(0.5, &one(1.0, &device), &device);
        assert_eq!(value(&ema.apply(&one(7.0, &device))), 1.0);
        let mut expected = 1.0;
        for n in 1..=20 {
            let n = f64::from(n);
            let decay = ((1.0 + n) / (10.0 + n)).min(0.5);
            expected = decay * expected + (1.0 - decay) * 3.0;
            ema.update(&one(3.0, &device), None);
        }
        assert!((f64::from(value(&ema.apply(&one(7.0, &device)))) - expected).abs() < 1e-6);
    }

    #[test]
    fn host_and_device_agree_and_a_mask_holds() {
        let device = Device::flex().autodiff();
        let run = |on_host: bool, finite: f32| {
            let mut ema = Ema::new(0.9, &one(1.0, &device), &device);
            ema.on_host = on_host;
            let flag = Tensor::<1>::from_floats([finite], &Device::flex()).is_finite();
            for _ in 0..3 {
                ema.update(&one(2.0, &device), (!on_host).then_some(&flag));
            }
            value(&ema.apply(&one(0.0, &device)))
        };
        assert!((run(true, 1.0) - run(false, 1.0)).abs() < 1e-6);
        assert_eq!(run(false, f32::INFINITY), 1.0);
    }
}
