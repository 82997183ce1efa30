//! The gradients of a module by parameter path: their accumulation over batches and their norm.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};
use foveal_kernels::{has_update_kernels, l2_norm};
use foveal_weights::ParamPath;
use rayon::prelude::*;

use super::params::{ParamTensor, ParamTensors, with_rank, with_slice};
use crate::device::is_host;

/// Number of elements in a partial sum. It is constant, so that sums do not depend on the number of threads.
const SUM_CHUNK: usize = 1 << 14;

/// Gradients of all trained parameters of a module by parameter path, each of the shape of its parameter.
#[derive(Debug, Default)]
pub struct Grads(pub(crate) ParamTensors);

struct Collect<'a> {
    path: ParamPath,
    source: &'a mut Gradients,
    into: &'a mut ParamTensors,
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
        let (path, grad) = (self.path.name(), grad.without_autodiff());
        let sum = match self.into.remove(&path) {
            Some(before) => before.into_rank::<D>() + grad,
            None => grad,
        };
        self.into.insert(path, ParamTensor::new(sum));
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
        let norm = match is_host(device) {
            true => self.0.values_mut().map(sum_of_squares).reduce(|a, b| a + b).map(Tensor::sqrt),
            false => norm_on_device(&self.0),
        };
        norm.unwrap_or_else(|| Tensor::zeros([1], &device.clone().without_autodiff()))
    }
}

/// The L2 norm of all gradients, `[1]`, by foveal's kernels for all of them where the device has these, and by Burn's
/// operations elsewhere; `None` without gradients.
fn norm_on_device(grads: &ParamTensors) -> Option<Tensor<1>> {
    if grads.is_empty() || !grads.values().all(|grad| has_update_kernels(grad.as_dispatch())) {
        return square_on_device(grads).map(Tensor::sqrt);
    }
    Some(l2_norm(grads.values().map(|grad| grad.clone().into_dispatch()).collect()))
}

/// The sum of the squares of all gradients, `[1]`, in operations whose number depends on the number of different shapes
/// of gradients, not on the number of gradients; `None` without gradients.
///
/// Burn fuses the squares of all gradients of a shape, their sum, and the sum over a dimension into one kernel. The
/// results for all shapes are concatenated and summed.
fn square_on_device(grads: &ParamTensors) -> Option<Tensor<1>> {
    let mut by_shape: BTreeMap<Vec<usize>, Vec<ParamTensor>> = BTreeMap::new();
    for grad in grads.values() {
        by_shape.entry(grad.shape().to_vec()).or_default().push(grad.clone());
    }
    let partial: Vec<_> = by_shape.into_values().filter_map(partial_sums).collect();
    // Not `sum_dim`: Burn 0.22.1 fuses it with the root that follows, and that kernel returns wrong values on wgpu.
    (!partial.is_empty()).then(|| Tensor::cat(partial, 0).sum())
}

/// Sums of the squares of tensors of the same shape, over all tensors and, unless they are vectors, over the second
/// dimension: in channels-last memory, the weights of one output channel at one position in a kernel lie side by side.
///
/// # Shapes
/// - tensors: `[n]` or `[output channels, input channels, ...]`
/// - result: `[n]` or `[output channels * ...]`
fn partial_sums(tensors: Vec<ParamTensor>) -> Option<Tensor<1>> {
    fn sums<const D: usize>(first: Tensor<D>, others: impl Iterator<Item = ParamTensor>) -> Tensor<1> {
        let squares = others.fold(first.square(), |sum, tensor| sum + tensor.into_rank::<D>().square());
        ParamTensor::new(if D > 1 { squares.sum_dim(1) } else { squares }).flat()
    }
    let mut tensors = tensors.into_iter();
    let first = tensors.next()?;
    Some(with_rank!(first, first => sums(first, tensors)))
}

/// The sum of the squares of a tensor in host memory, `[1]`, f64. The tensor is moved out and back in, so that its
/// memory is not copied.
fn sum_of_squares(tensor: &mut ParamTensor) -> Tensor<1> {
    let nothing = ParamTensor::new(Tensor::<1>::empty([0], &Device::flex()));
    let taken = std::mem::replace(tensor, nothing);
    with_rank!(taken, values => {
        let (device, mut sum) = (values.device(), 0.0);
        *tensor = ParamTensor::new(with_slice(values, |values| sum = sum_of_slice(values)));
        Tensor::from_data(TensorData::new(vec![sum], [1]), (&device, DType::F64))
    })
}

/// The sum of the squares, in f64. Chunks are summed apart, and their sums are added in order.
fn sum_of_slice(values: &[f32]) -> f64 {
    let partial: Vec<f64> = values.par_chunks(SUM_CHUNK).map(sum_of_chunk).collect();
    partial.into_iter().sum()
}

/// Number of sums that a chunk is added up in: enough for two additions of vectors to overlap.
const LANES: usize = 16;

/// The sum of the squares. Element `i` is added to sum `i % LANES`, and the sums are added in order.
fn sum_of_chunk(chunk: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value) * f64::from(value);
    let (pieces, rest) = chunk.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for piece in pieces {
        for (sum, value) in sums.iter_mut().zip(piece) {
            *sum += square(*value);
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += square(*value);
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::{LANES, sum_of_chunk};

    #[test]
    fn squares_are_added_in_a_fixed_order() {
        for length in [0, 1, 15, 16, 17, 1000] {
            // Squares of very different sizes, so that another order would give another sum.
            let values: Vec<f32> = (0..length).map(|i| (1.1f32 + i as f32).powi(i % 13 - 6)).collect();
            let lane = |i: usize| values.iter().skip(i).step_by(LANES);
            let lanes = (0..LANES).map(|i| lane(i).fold(0.0, |sum, v| sum + f64::from(*v) * f64::from(*v)));
            let plain: f64 = lanes.sum();
            assert_eq!(sum_of_chunk(&values).to_bits(), plain.to_bits(), "{length} elements");
        }
    }
}
