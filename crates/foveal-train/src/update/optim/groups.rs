//! Learning rates that differ between parts of a network.

use std::collections::BTreeSet;

use crate::config::TrainConfig;

/// Parameters below this path are the residual network's.
const BACKBONE: &str = "backbone.body.";

/// Which factor of the learning rate a parameter has. A new one follows `train.new_layers_lr` wherever it stands.
#[derive(Clone, Debug)]
pub struct LrGroups {
    backbone: f64,
    new_layers: f64,
    new: BTreeSet<String>,
}

impl LrGroups {
    /// The factors of a configuration; `new` are the tensors that the weight file did not give.
    pub fn new(config: &TrainConfig, new: &[String]) -> Self {
        Self { backbone: config.backbone_lr, new_layers: config.new_layers_lr, new: new.iter().cloned().collect() }
    }

    /// The factor of the parameter at a path.
    pub fn factor(&self, path: &str) -> f64 {
        if self.new.contains(path) {
            self.new_layers
        } else if path.starts_with(BACKBONE) {
            self.backbone
        } else {
            1.0
        }
    }

    /// A line for people, where a factor is not 1.
    pub fn describe(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.backbone != 1.0 {
            parts.push(format!("{} times for the residual network", self.backbone));
        }
        if self.new_layers != 1.0 {
            parts.push(format!(
                "{} times for the {} tensors that the weight file did not give",
                self.new_layers,
                self.new.len()
            ));
        }
        (!parts.is_empty()).then(|| format!("learning rate: {}", parts.join(", ")))
    }
}
