//! The gradients of a module by parameter path: accumulation and their global norm.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use rayon::prelude::*;

use crate::params::{FlatTensors, flat};
use foveal_weights::ParamPath;

/// Elements a partial sum covers: fixed, so that sums do not depend on the number of threads.
const SUM_CHUNK: usize = 1 << 14;

/// Gradients of all trained parameters.
#[derive(Debug, Default)]
pub struct Grads(pub(crate) FlatTensors);

struct Collect<'a> {
    path: ParamPath,
    source: &'a mut Gradients,
    into: &'a mut FlatTensors,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let Some(grad) = param.val().grad_remove(self.source) else { return };
        let path = self.path.name();
        let sum = match self.into.remove(&path) {
            Some(before) => before + flat(grad),
            None => flat(grad),
        };
        self.into.insert(path, sum);
    }
}

impl Grads {
    /// Adds the gradients of one backward pass.
    pub fn accumulate<M: Module>(&mut self, module: &M, mut gradients: Gradients) {
        module.visit(&mut Collect { path: ParamPath::default(), source: &mut gradients, into: &mut self.0 });
    }

    /// Square root of the sum of all squares, in f64, for tensors in host memory.
    pub fn norm_on_host(&mut self) -> f64 {
        let mut total = 0.0;
        for tensor in self.0.values_mut() {
            let taken = std::mem::replace(tensor, Tensor::empty([0], &tensor.device()));
            *tensor = crate::params::on_host(taken, |values| total += sum_of_squares(values));
        }
        total.sqrt()
    }

    /// The same, `[1]`, left on the device. `None` without gradients.
    pub fn norm_on_device(&self) -> Option<Tensor<1>> {
        self.0.values().map(|g| g.clone().square().sum()).reduce(|a, b| a + b).map(Tensor::sqrt)
    }
}

fn sum_of_squares(values: &[f32]) -> f64 {
    let partial: Vec<f64> = values
        .par_chunks(SUM_CHUNK)
        .map(|chunk| chunk.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>())
        .collect();
    partial.into_iter().sum()
}
