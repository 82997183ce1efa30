//! SGD and AdamW, computed as in torch, with their state keyed by parameter path.
//!
//! Burn's own optimizers are not used for three reasons: they key their state by `ParamId`, which is new in every
//! process; they can exclude parameters from weight decay only by a regular expression for each; and they create a
//! tensor for every arithmetic operation. Here an update in host memory is one pass over slices. On GPUs, foveal's
//! kernels update many parameters at once. On other accelerators, tensor operations that Burn fuses into one kernel
//! update one parameter. The latter two use the memory layout of the gradient.

mod groups;
mod kernels;
mod slices;
mod tensors;
#[cfg(test)]
mod tests;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Bool, Float, Tensor};
use foveal_weights::ParamPath;

use super::broadcast::Broadcast;
use super::params::{ParamTensor, ParamTensors};
use super::{Clipping, Grads};
use crate::config::{OptimizerKind, TrainConfig};
use crate::device::is_host;

pub(crate) use groups::LrGroups;
use kernels::Pending;

/// The rule by which an optimizer updates a parameter `p` with gradient `g`, and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Stochastic gradient descent with momentum as in `torch.optim.SGD`: `v = momentum * v + g + weight_decay * p`,
    /// then `p -= lr * v`.
    Sgd {
        /// Momentum, from 0 to below 1.
        momentum: f64,
    },
    /// Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2), where the decay is multiplied by the learning
    /// rate as in `torch.optim.AdamW`.
    AdamW {
        /// Decay rates of the first and the second moment, each from 0 to below 1.
        betas: [f64; 2],
        /// Added to the root of the bias-corrected second moment, above 0.
        eps: f64,
    },
}

/// An optimizer (SGD or AdamW) with its state for all parameters of a module.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    weight_decay: f64,
    decay_norms: bool,
    /// Factors of the learning rate for groups of parameters.
    pub groups: LrGroups,
    /// Momentum of SGD or first moment of AdamW by parameter path. A parameter has none before its first update.
    pub first: ParamTensors,
    /// Second moment of AdamW by parameter path; empty with SGD.
    pub second: ParamTensors,
    /// Number of updates made, for AdamW's bias correction.
    pub updates: u64,
}

/// The constants of one update of one parameter.
#[derive(Clone, Copy, Debug)]
struct Update {
    rule: Rule,
    lr: f64,
    weight_decay: f64,
    /// Number of this update, counted from 1.
    count: u64,
}

/// A parameter with its state, all of the same shape.
struct Tensors<const D: usize> {
    param: Tensor<D>,
    first: Tensor<D>,
    second: Option<Tensor<D>>,
}

impl Optimizer {
    /// A new optimizer with the settings of `config`, no state, and no parameter in the group of new layers
    /// (`train.new_layers_lr`).
    pub fn new(config: &TrainConfig) -> Self {
        let rule = match config.optimizer {
            OptimizerKind::Sgd => Rule::Sgd { momentum: config.momentum },
            OptimizerKind::AdamW => Rule::AdamW { betas: config.betas, eps: config.eps },
        };
        Self {
            rule,
            weight_decay: config.weight_decay,
            decay_norms: config.decay_norms,
            groups: LrGroups::new(config, &[]),
            first: ParamTensors::new(),
            second: ParamTensors::new(),
            updates: 0,
        }
    }

    /// Updates every parameter of `module` that has a gradient in `grads`, at the learning rate `lr`, with gradients
    /// multiplied by [`Clipping::factor`]. If [`Clipping::finite`] is false, only the count of updates changes.
    pub fn step<M: Module>(&mut self, module: M, grads: Grads, lr: f64, clipping: &Clipping) -> M {
        self.updates += 1;
        let mut pass = UpdateParams {
            path: ParamPath::default(),
            optimizer: self,
            grads,
            lr,
            clipping,
            factor: Broadcast::new(&clipping.factor),
            finite: Broadcast::new(&clipping.finite),
            pending: Pending::default(),
        };
        let module = module.map(&mut pass);
        let UpdateParams { pending, .. } = pass;
        pending.run(module, self, clipping)
    }

    /// Keeps the state of the parameter at `path`.
    fn keep(&mut self, path: String, first: ParamTensor, second: Option<ParamTensor>) {
        if let Some(second) = second {
            self.second.insert(path.clone(), second);
        }
        self.first.insert(path, first);
    }

    fn update_for(&self, path: &str, rank: usize, lr: f64) -> Update {
        Update {
            rule: self.rule,
            lr: lr * self.groups.factor(path),
            // The parameters with one dimension are biases, the affine parameters of norm layers and the factors of
            // pyramid levels.
            weight_decay: if rank > 1 || self.decay_norms { self.weight_decay } else { 0.0 },
            count: self.updates,
        }
    }
}

struct UpdateParams<'a> {
    path: ParamPath,
    optimizer: &'a mut Optimizer,
    grads: Grads,
    lr: f64,
    clipping: &'a Clipping,
    /// [`Clipping::factor`] as an operand for accelerators.
    factor: Broadcast<Float>,
    /// [`Clipping::finite`] as an operand for accelerators.
    finite: Broadcast<Bool>,
    /// The updates of the parameters that are made at once afterwards.
    pending: Pending,
}

impl ModuleMapper for UpdateParams<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.name();
        match self.grads.0.remove(&path) {
            Some(grad) => with_value(param, |value| self.updated(path, value, grad)),
            None => param,
        }
    }
}

impl UpdateParams<'_> {
    /// The new value of the parameter at `path`. If its update is made later, this is its gradient.
    fn updated<const D: usize>(&mut self, path: String, param: Tensor<D>, grad: ParamTensor) -> Tensor<D> {
        let grad = grad.into_rank::<D>();
        let (shape, device) = (param.shape(), grad.device());
        let optimizer = &mut *self.optimizer;
        let update = optimizer.update_for(&path, D, self.lr);
        let state = |tensors: &mut ParamTensors| match tensors.remove(&path) {
            Some(tensor) => tensor.into_rank::<D>(),
            None => Tensor::zeros(shape.clone(), &device),
        };
        let tensors = Tensors {
            first: state(&mut optimizer.first),
            second: matches!(update.rule, Rule::AdamW { .. }).then(|| state(&mut optimizer.second)),
            param,
        };
        let tensors = if is_host(&device) {
            slices::update(tensors, grad, &update, self.clipping)
        } else if kernels::take(&tensors, &grad) {
            self.pending.push(path, tensors, grad.clone(), &update);
            return grad;
        } else {
            let grad = grad * self.factor.of_rank();
            tensors::update(tensors, grad, &update, &self.finite.of_rank())
        };
        optimizer.keep(path, ParamTensor::new(tensors.first), tensors.second.map(ParamTensor::new));
        tensors.param
    }
}

/// The same parameter, trained as before, with the value that `new` computes from the present one. Neither has
/// autodiff.
fn with_value<const D: usize>(param: Param<Tensor<D>>, new: impl FnOnce(Tensor<D>) -> Tensor<D>) -> Param<Tensor<D>> {
    let (id, tensor, mapper) = param.consume();
    let checkpointing = tensor.gradient_checkpointing_strategy();
    let mut updated = Tensor::from_inner(new(tensor.without_autodiff()));
    if let Some(strategy) = checkpointing {
        updated = updated.with_gradient_checkpointing_strategy(strategy);
    }
    Param::from_mapped_value(id, updated.require_grad(), mapper)
}
