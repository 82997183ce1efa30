//! The gradients of a module by parameter path: their accumulation over batches and their norm.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};
use foveal_weights::ParamPath;
use rayon::prelude::*;

use super::params::{FlatTensors, flat, with_slice};
use crate::device::is_host;

/// Number of elements in a partial sum. It is constant, so that sums do not depend on the number of threads.
const SUM_CHUNK: usize = 1 << 14;

/// Gradients of all trained parameters of a module by parameter path, each flattened to `[elements]`.
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
    /// Adds the gradients of one backward pass for all parameters of `module` that require them.
    pub fn accumulate<M: Module>(&mut self, module: &M, mut gradients: Gradients) {
        module.visit(&mut Collect { path: ParamPath::default(), source: &mut gradients, into: &mut self.0 });
    }

    /// The L2 norm of all gradients together, as a tensor on the device of the gradients. The call does not wait for an
    /// accelerator. If there are no gradients, the result is 0 on `device`. It is f64 for gradients in host memory and
    /// f32 on accelerators.
    ///
    /// # Shapes
    /// - result: `[1]`
    pub fn norm(&mut self, device: &Device) -> Tensor<1> {
        let squares = self.0.values_mut().map(sum_of_squares).reduce(|a, b| a + b);
        squares.map_or_else(|| Tensor::zeros([1], &device.clone().without_autodiff()), Tensor::sqrt)
    }
}

/// The sum of a tensor's squares, `[1]`. The tensor is moved out and back in, so that its memory is not copied.
fn sum_of_squares(tensor: &mut Tensor<1>) -> Tensor<1> {
    let device = tensor.device();
    if !is_host(&device) {
        return tensor.clone().square().sum();
    }
    let mut sum = 0.0;
    let taken = std::mem::replace(tensor, Tensor::empty([0], &device));
    *tensor = with_slice(taken, |values| sum = sum_of_slice(values));
    Tensor::from_data(TensorData::new(vec![sum], [1]), (&device, DType::F64))
}

fn sum_of_slice(values: &[f32]) -> f64 {
    let partial: Vec<f64> = values
        .par_chunks(SUM_CHUNK)
        .map(|chunk| chunk.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>())
        .collect();
    partial.into_iter().sum()
}
