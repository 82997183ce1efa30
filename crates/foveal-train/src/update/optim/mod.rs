//! SGD and AdamW with torch's semantics over a module's parameters, state by parameter path.
//!
//! Burn's own optimizers key their state by `ParamId`, which is new in every process, know no group without
//! weight decay short of a regular expression a parameter, and make a tensor an operation. On host memory the
//! update here is one pass over slices; elsewhere it is composed of tensor operations.

mod groups;
mod slices;
mod tensors;
#[cfg(test)]
mod tests;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use foveal_weights::ParamPath;

use super::{Clipping, FlatTensors, Grads, params::flat};
use crate::config::{OptimizerKind, TrainConfig};
use crate::device::is_host;

pub use groups::LrGroups;

/// The rule of an update and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `v = momentum v + g; p -= lr v`.
    Sgd {
        /// Momentum.
        momentum: f64,
    },
    /// arXiv 1711.05101, algorithm 2, with the learning rate on the decay as in torch.
    AdamW {
        /// Decay rates of the moments.
        betas: [f64; 2],
        /// Added to the root of the second moment.
        eps: f64,
    },
}

/// An optimizer and its state.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    weight_decay: f64,
    decay_norms: bool,
    /// Which parameter follows which factor of the learning rate.
    pub groups: LrGroups,
    /// Momentum, or the first moment.
    pub first: FlatTensors,
    /// The second moment; empty under SGD.
    pub second: FlatTensors,
    /// Updates made.
    pub updates: u64,
}

/// One parameter's constants in one update.
#[derive(Clone, Copy, Debug)]
struct Update {
    rule: Rule,
    lr: f64,
    weight_decay: f64,
    /// Number of this update, from 1.
    count: u64,
}

/// One parameter, its gradient and its state; all of one length.
struct Tensors {
    param: Tensor<1>,
    grad: Tensor<1>,
    first: Tensor<1>,
    second: Option<Tensor<1>>,
}

impl Optimizer {
    /// An optimizer without any history, to which no layer is new.
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
            first: FlatTensors::new(),
            second: FlatTensors::new(),
            updates: 0,
        }
    }

    /// One update of every parameter that has a gradient, with clipped gradients. Nothing changes but the count of
    /// updates where [`Clipping::finite`] is false.
    pub fn step<M: Module>(&mut self, module: M, grads: Grads, lr: f64, clipping: &Clipping) -> M {
        self.updates += 1;
        module.map(&mut Step { path: ParamPath::default(), optimizer: self, grads, lr, clipping })
    }

    fn update_for(&self, path: &str, rank: usize, lr: f64) -> Update {
        Update {
            rule: self.rule,
            lr: lr * self.groups.factor(path),
            // Biases and the affine parameters of norms are all that has one dimension.
            weight_decay: if rank > 1 || self.decay_norms { self.weight_decay } else { 0.0 },
            count: self.updates,
        }
    }
}

struct Step<'a> {
    path: ParamPath,
    optimizer: &'a mut Optimizer,
    grads: Grads,
    lr: f64,
    clipping: &'a Clipping,
}

impl ModuleMapper for Step<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.name();
        let Some(grad) = self.grads.0.remove(&path) else { return param };
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.shape();
        let checkpointing = tensor.gradient_checkpointing_strategy();
        let optimizer = &mut *self.optimizer;
        let update = optimizer.update_for(&path, D, self.lr);
        let zeros = || Tensor::zeros([shape.num_elements()], &grad.device());
        let tensors = Tensors {
            first: optimizer.first.remove(&path).unwrap_or_else(zeros),
            second: matches!(update.rule, Rule::AdamW { .. })
                .then(|| optimizer.second.remove(&path).unwrap_or_else(zeros)),
            param: flat(tensor),
            grad,
        };
        let tensors = match is_host(&tensors.param.device()) {
            true => slices::update(tensors, &update, self.clipping),
            false => tensors::update(tensors, &update, self.clipping),
        };
        optimizer.first.insert(path.clone(), tensors.first);
        if let Some(second) = tensors.second {
            optimizer.second.insert(path, second);
        }
        let mut updated = Tensor::from_inner(tensors.param.reshape(shape));
        if let Some(strategy) = checkpointing {
            updated = updated.with_gradient_checkpointing_strategy(strategy);
        }
        Param::from_mapped_value(id, updated.require_grad(), mapper)
    }
}
