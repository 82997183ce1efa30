//! Checks that the tensors of a training state are those of a network and its optimizer.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use foveal_detector::RetinaNet;
use foveal_weights::{ParamPath, TensorMap};

use crate::config::{OptimizerKind, RunConfig};
use crate::run::TrainState;

/// Checks that the averages of a state are those of all tensors of the network, and its moments those of all trained
/// parameters.
///
/// # Errors
/// What was expected and found.
pub(super) fn check(state: &TrainState, model: &RetinaNet, config: &RunConfig) -> Result<(), String> {
    let mut sizes = Sizes::default();
    model.visit(&mut sizes);
    let (none, trained) = (BTreeMap::new(), &sizes.trained);
    let weights = state.weights.iter().map(|(name, t)| (name.clone(), t.values.len())).collect();
    let averages = if config.train.ema > 0.0 { &weights } else { &none };
    let moments = if state.meta.optimizer_updates > 0 { trained } else { &none };
    let second = if config.train.optimizer == OptimizerKind::AdamW { moments } else { &none };
    same("moving averages", averages, &state.ema)?;
    same("first moments", moments, &state.first)?;
    same("second moments", second, &state.second)
}

/// Checks that the state holds a tensor of the right size for each name, and no other.
fn same(what: &str, expected: &BTreeMap<String, usize>, found: &TensorMap) -> Result<(), String> {
    for (name, size) in expected {
        let found = found.get(name).map(|tensor| tensor.values.len());
        if found != Some(*size) {
            let found = found.map_or("none".to_owned(), |n| format!("{n} numbers"));
            return Err(format!("expected {size} numbers for {name} in the {what} of the state, found {found}"));
        }
    }
    match found.keys().find(|name| !expected.contains_key(*name)) {
        Some(name) => Err(format!("expected no tensor {name} in the {what} of the state, found one")),
        None => Ok(()),
    }
}

/// The number of elements of each trained parameter by its path.
#[derive(Default)]
struct Sizes {
    path: ParamPath,
    trained: BTreeMap<String, usize>,
}

impl ModuleVisitor for Sizes {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.val().is_require_grad() {
            self.trained.insert(self.path.name(), param.val().shape().num_elements());
        }
    }
}
