//! `[model.head]`.

use foveal_nn::NORM_GROUPS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Norm after each tower convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadNorm {
    /// None; the convolutions have biases: the paper, torchvision's v1.
    #[default]
    None,
    /// Group norm after convolutions without bias: torchvision's v2.
    Group,
}

/// The two towers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeadConfig {
    /// 3x3 convolutions before the last one (section 4: 4).
    pub convs: usize,
    /// Norm of the towers.
    pub norm: HeadNorm,
    /// Groups of the group norm.
    pub groups: usize,
    /// Probability of an object that a new class head gives every anchor (section 3.3: 0.01).
    pub prior: f64,
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self { convs: 4, norm: HeadNorm::None, groups: NORM_GROUPS, prior: 0.01 }
    }
}
