//! Parameter updates by foveal's GPU kernels, which take many parameters at once.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use foveal_kernels::{Trained, UpdateRule, has_update_kernels, update_parameters};
use foveal_weights::ParamPath;

use super::slices::Adam;
use super::{Optimizer, ParamTensor, ParamTensors, Rule, Tensors, Update, with_value};
use crate::update::Clipping;

/// Whether there are kernels for the update of a parameter with the gradient `grad`.
pub(super) fn take<const D: usize>(tensors: &Tensors<D>, grad: &Tensor<D>) -> bool {
    let all = [grad, &tensors.param, &tensors.first].into_iter().chain(&tensors.second);
    all.into_iter().all(|tensor| has_update_kernels(&tensor.clone().into_dispatch()))
}

/// Updates that are made at once, of parameters that are on the same device.
#[derive(Default)]
pub(super) struct Pending {
    /// The rule that all updates share; `None` without updates.
    rule: Option<UpdateRule>,
    /// The paths of the parameters.
    paths: Vec<String>,
    updates: Vec<foveal_kernels::Update>,
}

impl Pending {
    /// Adds the update of the parameter at `path` with the gradient `grad`.
    pub(super) fn push<const D: usize>(&mut self, path: String, tensors: Tensors<D>, grad: Tensor<D>, update: &Update) {
        let (rule, rate, decay) = constants(update);
        let trained = Trained {
            param: tensors.param.into_dispatch(),
            first: tensors.first.into_dispatch(),
            second: tensors.second.map(Tensor::into_dispatch),
        };
        self.rule = Some(rule);
        self.paths.push(path);
        self.updates.push(foveal_kernels::Update { trained, gradient: grad.into_dispatch(), rate, decay });
    }

    /// Makes the updates. Returns `module` with the new parameters, and keeps the new states in `optimizer`.
    pub(super) fn run<M: Module>(self, module: M, optimizer: &mut Optimizer, clipping: &Clipping) -> M {
        let Some(rule) = self.rule else { return module };
        let trained = update_parameters(self.updates, rule, clipping.factor.clone(), clipping.finite.clone());
        let mut params = ParamTensors::new();
        for (path, Trained { param, first, second }) in self.paths.into_iter().zip(trained) {
            params.insert(path.clone(), ParamTensor::from_dispatch(param));
            optimizer.keep(path, ParamTensor::from_dispatch(first), second.map(ParamTensor::from_dispatch));
        }
        module.map(&mut PutBack { path: ParamPath::default(), params })
    }
}

/// The rule of an update, and the rate and the decay of its parameter, all rounded to f32.
fn constants(update: &Update) -> (UpdateRule, f32, f32) {
    match update.rule {
        Rule::Sgd { momentum } => {
            (UpdateRule::Sgd { momentum: momentum as f32 }, update.lr as f32, update.weight_decay as f32)
        }
        Rule::AdamW { betas, eps } => {
            let Adam { keep, beta2, rest, rate, root, eps } = Adam::new(update, betas, eps);
            (UpdateRule::AdamW { beta2, rest, root, eps }, rate, keep)
        }
    }
}

/// Puts the updated parameters into a module, in which their gradients took their places.
struct PutBack {
    path: ParamPath,
    params: ParamTensors,
}

impl ModuleMapper for PutBack {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.params.remove(&self.path.name()) {
            Some(new) => with_value(param, |_| new.into_rank()),
            None => param,
        }
    }
}
