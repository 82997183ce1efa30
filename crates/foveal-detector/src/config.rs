//! The architecture settings (`[model]`) of configs and checkpoints.

use std::path::PathBuf;

use foveal_anchors::AnchorConfig;
use foveal_backbone::{BackboneKind, BackboneNorm, FREEZABLE, P6From};
use foveal_base::{SettingError, check};
use foveal_heads::{HeadConfig, HeadNorm, prior_bias};
use foveal_nn::NORM_EPS;
use foveal_weights::WeightsConvention;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ClassChannels;

/// Architecture of the network and the source of its initial weights (`[model]`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Residual network that computes the image features, by its torchvision name. Default: resnet50.
    pub backbone: BackboneKind,
    /// Output channels of the backbone's stem, at most 1024; all later widths scale with it. 64 (the default) in all
    /// published networks.
    pub base_width: usize,
    /// File with pretrained weights, or unset to train from random weights. Either weights of the backbone with the
    /// parameter names of torchvision, timm or Detectron2, or a foveal checkpoint, from which every tensor that fits
    /// is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Position of the strides in the backbone's bottlenecks, and the input (channel order, range, normalisation) that
    /// the weight file was trained on. Tensor names and shapes do not reveal either.
    pub weights_convention: WeightsConvention,
    /// Number of backbone stages that are not trained, counted from the input: 0 (the default) none, 1 the stem, 2 the
    /// stem and layer1, up to 5, the whole backbone.
    pub freeze_stages: usize,
    /// Kind of the backbone's normalisation layers: `group` (the default), `batch`, `frozen_batch` or
    /// `frozen_statistics`. The last two need pretrained weights.
    pub norm: BackboneNorm,
    /// Constant added to the variance in the backbone's norms, 0 or more. Default: 1e-5; torchvision's published
    /// `COCO_V1` detector was trained with 0.
    pub norm_eps: f64,
    /// Names of the backbone's norms that are trained as batch norms although `norm` is `frozen_batch` or
    /// `frozen_statistics`, because the weight file has no statistics for them. foveal fills this in when it loads the
    /// weights.
    pub live_norms: Vec<String>,
    /// Feature map from which the pyramid level P6 is computed: the pyramid's `p5` or the backbone's `c5`.
    pub p6_from: P6From,
    /// Channels of the feature pyramid's maps and of the heads' hidden layers, from 1 to 4096. Default: 256 (arXiv
    /// 1708.02002, section 4).
    pub fpn_channels: usize,
    /// Class head and box head: number of convolutions, norms, and the initial probability of an object.
    pub head: HeadConfig,
    /// Sizes, aspect ratios and rounding of the anchors.
    pub anchors: AnchorConfig,
    /// Assignment of classes to the channels of the class head, if the head has channels without a class. An import
    /// fills this in; training configs leave it unset.
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

/// Largest width of the stem, 16 times that of the published networks.
const MAX_BASE_WIDTH: usize = 1024;
/// Largest number of channels of the feature pyramid, 16 times the usual one.
const MAX_CHANNELS: u64 = 4096;
/// Largest number of convolutions of a head, 16 times the usual one.
const MAX_HEAD_CONVS: u64 = 64;
/// Largest number of weights of the convolutions (8 GB), 20 times that of the largest published network.
const MAX_WEIGHTS: f64 = 2e9;
/// Largest number of channels of the class head for an anchor.
const MAX_CLASSES: u64 = 1_000_000;

impl ModelConfig {
    /// Checks that all values are in their valid ranges and consistent with each other.
    ///
    /// # Errors
    /// [`SettingError`] with the first invalid key (relative to `model`), the accepted values and the value found.
    pub fn validate(&self) -> Result<(), SettingError> {
        let freezable = self.freeze_stages <= FREEZABLE;
        check::that(freezable, "freeze_stages", "0 (nothing) to 5 (the whole backbone)", &self.freeze_stages)?;
        let (width, step) = (self.base_width, self.backbone.width_step());
        check::that(
            (1..=MAX_BASE_WIDTH).contains(&width) && width.is_multiple_of(step),
            "base_width",
            &format!(
                "a multiple of {step} from {step} to {MAX_BASE_WIDTH} (64 in every published {})",
                self.backbone.name()
            ),
            &width,
        )?;
        check::not_negative("norm_eps", self.norm_eps)?;
        if let Some(channels) = &self.class_channels {
            check::count("class_channels.count", channels.count, 1..=MAX_CLASSES)?;
            check::that(channels.is_sound(), "class_channels", "a channel of its own for each class", channels)?;
        }
        check::count("fpn_channels", self.fpn_channels, 1..=MAX_CHANNELS)?;
        let HeadConfig { convs, prior, groups, norm, .. } = self.head;
        check::count("head.convs", convs, 0..=MAX_HEAD_CONVS)?;
        let expected = "a probability between 0 and 1, both excluded";
        check::that(prior > 0.0 && prior < 1.0, "head.prior", expected, &prior)?;
        let bias = prior_bias(prior);
        check::that(bias.is_finite(), "head.prior", "a probability of at least 1e-300", &prior)?;
        check::that(
            norm == HeadNorm::None || groups > 0 && self.fpn_channels.is_multiple_of(groups),
            "head.groups",
            &format!("a divisor of model.fpn_channels, which is {}", self.fpn_channels),
            &groups,
        )?;
        self.anchors.validate().map_err(|e| e.within("anchors"))?;
        self.validate_size(1)
    }

    /// Checks that the convolutions of a network for `classes` classes have no more than 2e9 weights. Nothing is
    /// allocated.
    ///
    /// # Errors
    /// [`SettingError`] with the key `base_width`, the other keys that determine the size, the limit and the number of
    /// weights.
    pub fn validate_size(&self, classes: usize) -> Result<(), SettingError> {
        let weights = self.convolution_weights(classes, MAX_WEIGHTS);
        check::that(
            weights <= MAX_WEIGHTS,
            "base_width",
            &format!(
                "a network of at most {MAX_WEIGHTS:e} weights with model.fpn_channels, model.head and model.anchors"
            ),
            &format_args!("{width}, which gives at least {weights:.2e} weights", width = self.base_width),
        )
    }

    /// Returns the number of channels per anchor of the class head for `classes` classes: `class_channels.count` if
    /// that is set, else `classes`.
    pub fn channels(&self, classes: usize) -> usize {
        self.class_channels.as_ref().map_or(classes, |c| c.count)
    }
}
