//! `[model]`: the resolved architecture, as configs and checkpoints carry it.

use std::path::PathBuf;

use foveal_anchors::AnchorConfig;
use foveal_backbone::{BackboneKind, NormChoice, P6From};
use foveal_heads::HeadConfig;
use serde::{Deserialize, Serialize};

/// Everything that shapes the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The residual network.
    pub backbone: BackboneKind,
    /// Channels of its stem; 64 in every published one.
    pub base_width: usize,
    /// File with pretrained backbone weights (torchvision layout).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Stages out of training, from the input: 0 none, 1 the stem, 2 stem and layer1, … 5 the whole backbone.
    pub freeze_stages: usize,
    /// Norms of the backbone.
    pub norm: NormChoice,
    /// Norms that stay trained batch norms under `frozen_batch`: those whose statistics the weight file lacked.
    /// Filled in when the weights are loaded.
    pub live_norms: Vec<String>,
    /// What P6 is made from.
    pub p6_from: P6From,
    /// Channels of the pyramid and the heads.
    pub fpn_channels: usize,
    /// The heads.
    pub head: HeadConfig,
    /// The anchors.
    pub anchors: AnchorConfig,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            backbone: BackboneKind::default(),
            base_width: 64,
            weights: None,
            freeze_stages: 0,
            norm: NormChoice::default(),
            live_norms: Vec::new(),
            p6_from: P6From::default(),
            fpn_channels: 256,
            head: HeadConfig::default(),
            anchors: AnchorConfig::default(),
        }
    }
}

impl ModelConfig {
    /// The network's name for messages, as the config spells it.
    pub fn backbone_name(&self) -> String {
        format!("{:?}", self.backbone).to_lowercase()
    }
}
