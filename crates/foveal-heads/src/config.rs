//! The configuration of the heads: section `[model.head]`.

use foveal_nn::NORM_GROUPS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Normalisation after each convolution of the heads' towers (`model.head.norm`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadNorm {
    /// No normalisation; the convolutions have biases. This is the network of the paper (arXiv 1708.02002) and of
    /// torchvision's `retinanet_resnet50_fpn`.
    #[default]
    None,
    /// Group norm after convolutions without bias, as in torchvision's `retinanet_resnet50_fpn_v2`.
    Group,
}

/// The configuration of the classification and the box regression head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeadConfig {
    /// Number of 3x3 convolutions in the tower of each head, before the output layer, at most 64 (default 4, as in
    /// arXiv 1708.02002, section 4).
    pub convs: usize,
    /// Normalisation after each convolution of the towers (default `none`).
    pub norm: HeadNorm,
    /// Number of groups of the group norm, a divisor of `model.fpn_channels` (default 32). It has no effect without
    /// group norm.
    pub groups: usize,
    /// Probability between 0 and 1 that a new classification head gives every anchor for every class (default 0.01, as
    /// in arXiv 1708.02002, sections 3.3 and 4.1).
    pub prior: f64,
    /// Whether the box outputs of each pyramid level are multiplied by a learnt factor that starts at 1 (default
    /// false), as in FCOS (arXiv 1904.01355, section 3.2) and ATSS (arXiv 1912.02424). torchvision's RetinaNet has no
    /// such factors, so a network with them cannot be exported to it.
    pub level_scales: bool,
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self { convs: 4, norm: HeadNorm::None, groups: NORM_GROUPS, prior: 0.01, level_scales: false }
    }
}
