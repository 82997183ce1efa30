//! Factors of the learning rate for groups of parameters (`train.backbone_lr`, `train.new_layers_lr`).

use std::collections::BTreeSet;

use crate::config::TrainConfig;

/// Prefix of the paths of the backbone's parameters, without those of the feature pyramid.
const BACKBONE: &str = "backbone.body.";

/// The factor of the learning rate of each parameter: `train.new_layers_lr` for parameters that were not loaded from
/// `model.weights`, `train.backbone_lr` for other parameters of the backbone, and 1 for all others.
#[derive(Clone, Debug)]
pub struct LrGroups {
    backbone: f64,
    new_layers: f64,
    new: BTreeSet<String>,
}

impl LrGroups {
    /// The factors that `config` sets. `new` holds the paths of the tensors that were not loaded from `model.weights`.
    pub fn new(config: &TrainConfig, new: &[String]) -> Self {
        Self { backbone: config.backbone_lr, new_layers: config.new_layers_lr, new: new.iter().cloned().collect() }
    }

    /// The factor of the learning rate for the parameter at `path`.
    pub fn factor(&self, path: &str) -> f64 {
        if self.new.contains(path) {
            self.new_layers
        } else if path.starts_with(BACKBONE) {
            self.backbone
        } else {
            1.0
        }
    }

    /// A message for the user about the factors that are not 1; `None` if all are 1.
    pub fn describe(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.backbone != 1.0 {
            parts.push(format!("{} for the backbone (train.backbone_lr)", self.backbone));
        }
        if self.new_layers != 1.0 {
            parts.push(format!(
                "{} for {} tensors that were not loaded from model.weights (train.new_layers_lr)",
                self.new_layers,
                self.new.len()
            ));
        }
        (!parts.is_empty()).then(|| format!("factors of the learning rate: {}", parts.join(", ")))
    }
}
