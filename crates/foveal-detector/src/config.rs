//! `[model]`: the resolved architecture, as configs and checkpoints carry it.

use std::path::PathBuf;

use foveal_anchors::AnchorConfig;
use foveal_backbone::{BackboneKind, BackboneNorm, FREEZABLE, P6From};
use foveal_base::{SettingError, check};
use foveal_heads::{HeadConfig, HeadNorm};
use foveal_nn::NORM_EPS;
use foveal_weights::WeightsConvention;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ClassChannels;

/// Everything that shapes the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The residual network.
    pub backbone: BackboneKind,
    /// Channels of its stem; 64 in every published one.
    pub base_width: usize,
    /// File with pretrained weights: of the backbone under the names of torchvision, timm or Detectron2, or a foveal
    /// checkpoint, of which all layers that fit are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Where the backbone has its strides, and what input its weight file expects, where names leave that open.
    pub weights_convention: WeightsConvention,
    /// Stages out of training, from the input: 0 none, 1 the stem, 2 stem and layer1, … 5 the whole backbone.
    pub freeze_stages: usize,
    /// Norms of the backbone.
    pub norm: BackboneNorm,
    /// Added to the variance in the backbone's norms. 1e-5, but 0 in torchvision's published `COCO_V1` detector.
    pub norm_eps: f64,
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
    /// The class channels, where they are not one a category. Filled in by an import; no key of a recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_channels: Option<ClassChannels>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            backbone: BackboneKind::default(),
            base_width: 64,
            weights: None,
            weights_convention: WeightsConvention::default(),
            freeze_stages: 0,
            norm: BackboneNorm::default(),
            norm_eps: NORM_EPS,
            live_norms: Vec::new(),
            p6_from: P6From::default(),
            fpn_channels: 256,
            head: HeadConfig::default(),
            anchors: AnchorConfig::default(),
            class_channels: None,
        }
    }
}

impl ModelConfig {
    /// Refuses values that the types allow and no network has.
    ///
    /// # Errors
    /// The first such key below `model`, what is possible, and the value.
    pub fn validate(&self) -> Result<(), SettingError> {
        let freezable = self.freeze_stages <= FREEZABLE;
        check::that(freezable, "freeze_stages", "0 (nothing) to 5 (the whole backbone)", &self.freeze_stages)?;
        let (width, step) = (self.base_width, self.backbone.width_step());
        check::that(
            width > 0 && width.is_multiple_of(step),
            "base_width",
            &format!("a positive multiple of {step} (64 in every published {})", self.backbone.name()),
            &width,
        )?;
        check::not_negative("norm_eps", self.norm_eps)?;
        if let Some(channels) = &self.class_channels {
            check::that(channels.is_sound(), "class_channels", "a channel of its own for each class", channels)?;
        }
        check::at_least_one("fpn_channels", self.fpn_channels)?;
        let HeadConfig { prior, groups, norm, .. } = self.head;
        let expected = "a probability between 0 and 1, both excluded";
        check::that(prior > 0.0 && prior < 1.0, "head.prior", expected, &prior)?;
        check::that(
            norm == HeadNorm::None || groups > 0 && self.fpn_channels.is_multiple_of(groups),
            "head.groups",
            &format!("a divisor of model.fpn_channels, which is {}", self.fpn_channels),
            &groups,
        )?;
        self.anchors.validate().map_err(|e| e.within("anchors"))
    }

    /// Class channels of a network for so many classes.
    pub fn channels(&self, classes: usize) -> usize {
        self.class_channels.as_ref().map_or(classes, |c| c.count)
    }
}
