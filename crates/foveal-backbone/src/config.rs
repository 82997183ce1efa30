//! The configuration of a backbone: its kind, its norms, and the source of P6.

use foveal_nn::{NORM_GROUPS, NormKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of stages of every backbone: four, whose outputs have the strides 4, 8, 16 and 32 pixels.
pub const STAGES: usize = 4;

/// The backbone network (`model.backbone`). The names are those of torchvision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackboneKind {
    /// ResNet-18, with basic blocks (He et al., arXiv 1512.03385, table 1).
    ResNet18,
    /// ResNet-34, with basic blocks (He et al., arXiv 1512.03385, table 1).
    ResNet34,
    /// ResNet-50, with bottlenecks (He et al., arXiv 1512.03385, table 1).
    #[default]
    ResNet50,
    /// ResNet-101, with bottlenecks (He et al., arXiv 1512.03385, table 1).
    ResNet101,
    /// ResNet-152, with bottlenecks (He et al., arXiv 1512.03385, table 1).
    ResNet152,
    /// ResNeXt-50 with 32 groups of 4 channels (Xie et al., arXiv 1611.05431, table 1).
    #[serde(rename = "resnext50_32x4d")]
    ResNeXt50_32x4d,
    /// ResNeXt-101 with 64 groups of 4 channels, as in torchvision (Xie et al., arXiv 1611.05431).
    #[serde(rename = "resnext101_64x4d")]
    ResNeXt101_64x4d,
    /// ResNet-50 with twice the inner channels in its bottlenecks (Zagoruyko and Komodakis, arXiv 1605.07146).
    #[serde(rename = "wide_resnet50_2")]
    WideResNet50_2,
}

/// The kind of residual block of a network (He et al., arXiv 1512.03385, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// A basic block: two 3x3 convolutions with the width of the stage as channels.
    Basic,
    /// A bottleneck: three convolutions, 1x1, 3x3 and 1x1, of which the last one has four times the width of the stage
    /// as channels.
    Bottleneck,
}

impl BlockKind {
    /// Ratio of the output channels of a block to the width of its stage: 1 for a basic block, 4 for a bottleneck.
    pub fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// The structure of a residual network: its blocks, their numbers, groups and widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResNetSpec {
    /// The kind of residual block that all stages consist of.
    pub block: BlockKind,
    /// Numbers of blocks in layer1, layer2, layer3 and layer4.
    pub depths: [usize; STAGES],
    /// Number of groups of the 3x3 convolutions in bottlenecks (the cardinality of ResNeXt); 1 in a ResNet.
    pub groups: usize,
    /// Number of inner channels of a group in layer1 (torchvision's `width_per_group`), which doubles with each stage;
    /// 64 in a plain ResNet.
    pub width_per_group: usize,
}

impl ResNetSpec {
    /// Number of inner channels of a block in a stage of the given width (64, 128, 256 or 512 in the published
    /// networks), by the formula of torchvision's `Bottleneck`.
    pub fn inner_width(&self, width: usize) -> usize {
        width * self.width_per_group / PLAIN_WIDTH * self.groups
    }
}

/// The `width_per_group` of a plain ResNet, which has one group.
const PLAIN_WIDTH: usize = 64;
/// Smallest multiple that [`BackboneKind::width_step`] returns: the width of the narrowest stem in tests.
const LEAST_STEP: usize = 4;

impl BackboneKind {
    /// All backbones: the plain ResNets by depth, then the others.
    pub const ALL: [Self; 8] = [
        Self::ResNet18,
        Self::ResNet34,
        Self::ResNet50,
        Self::ResNet101,
        Self::ResNet152,
        Self::ResNeXt50_32x4d,
        Self::ResNeXt101_64x4d,
        Self::WideResNet50_2,
    ];

    /// The name of the backbone in configurations and in torchvision, such as `resnet50`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::ResNet50 => "resnet50",
            Self::ResNet101 => "resnet101",
            Self::ResNet152 => "resnet152",
            Self::ResNeXt50_32x4d => "resnext50_32x4d",
            Self::ResNeXt101_64x4d => "resnext101_64x4d",
            Self::WideResNet50_2 => "wide_resnet50_2",
        }
    }

    /// The number of which the width of the stem (`model.base_width`) must be a multiple, so that every group of every
    /// convolution has a whole number of channels.
    pub fn width_step(self) -> usize {
        (1..=PLAIN_WIDTH)
            .find(|step| {
                step.is_multiple_of(LEAST_STEP) && (step * self.spec().width_per_group).is_multiple_of(PLAIN_WIDTH)
            })
            .unwrap_or(PLAIN_WIDTH)
    }

    /// The structure of the network, as in torchvision.
    pub fn spec(self) -> ResNetSpec {
        use BlockKind::{Basic, Bottleneck};
        let plain = |block, depths| ResNetSpec { block, depths, groups: 1, width_per_group: PLAIN_WIDTH };
        match self {
            Self::ResNet18 => plain(Basic, [2, 2, 2, 2]),
            Self::ResNet34 => plain(Basic, [3, 4, 6, 3]),
            Self::ResNet50 => plain(Bottleneck, [3, 4, 6, 3]),
            Self::ResNet101 => plain(Bottleneck, [3, 4, 23, 3]),
            Self::ResNet152 => plain(Bottleneck, [3, 8, 36, 3]),
            Self::ResNeXt50_32x4d => ResNetSpec { groups: 32, width_per_group: 4, ..Self::ResNet50.spec() },
            Self::ResNeXt101_64x4d => ResNetSpec { groups: 64, width_per_group: 4, ..Self::ResNet101.spec() },
            Self::WideResNet50_2 => ResNetSpec { width_per_group: 2 * PLAIN_WIDTH, ..Self::ResNet50.spec() },
        }
    }
}

/// Normalisation in the backbone (`model.norm`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackboneNorm {
    /// Batch norm with fixed statistics, scale and shift, none of which is trained. This is for pretrained weights and
    /// small batches.
    FrozenBatch,
    /// Batch norm with fixed statistics and trained scale and shift (MMDetection's `norm_eval=True`). This is for
    /// pretrained weights and small batches.
    FrozenStatistics,
    /// Batch norm with trained scale and shift, which normalises by the statistics of the batch during training.
    Batch,
    /// Group norm, which is independent of the batch size (arXiv 1803.08494). This is the default, for training from
    /// random weights.
    #[default]
    Group,
}

impl BackboneNorm {
    /// The name of the norm in configurations, such as `frozen_batch`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FrozenBatch => "frozen_batch",
            Self::FrozenStatistics => "frozen_statistics",
            Self::Batch => "batch",
            Self::Group => "group",
        }
    }

    /// Whether the norms normalise by statistics that are never updated, which must come from pretrained weights.
    pub fn has_fixed_statistics(self) -> bool {
        match self {
            Self::FrozenBatch | Self::FrozenStatistics => true,
            Self::Batch | Self::Group => false,
        }
    }

    /// The kind of norm layer for a number of channels. A group norm has the largest number of groups up to 32 that
    /// divides the channels.
    pub fn kind(self, channels: usize) -> NormKind {
        match self {
            Self::FrozenBatch => NormKind::Frozen,
            Self::FrozenStatistics => NormKind::FrozenStatistics,
            Self::Batch => NormKind::Batch,
            Self::Group => NormKind::Group { groups: groups_for(channels, NORM_GROUPS) },
        }
    }
}

/// The largest number of groups up to `wanted` that divides `channels`.
fn groups_for(channels: usize, wanted: usize) -> usize {
    (1..=wanted.min(channels)).rev().find(|g| channels.is_multiple_of(*g)).unwrap_or(1)
}

/// The map from which the pyramid level P6 is computed (`model.p6_from`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum P6From {
    /// The pyramid level P5, as in torchvision's `retinanet_resnet50_fpn`.
    #[default]
    P5,
    /// The last map of the backbone, C5, as in the paper (arXiv 1708.02002, section 4) and in torchvision's
    /// `retinanet_resnet50_fpn_v2`.
    C5,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_configs() {
        for kind in BackboneKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        let norms =
            [BackboneNorm::FrozenBatch, BackboneNorm::FrozenStatistics, BackboneNorm::Batch, BackboneNorm::Group];
        for norm in norms {
            assert_eq!(serde_json::to_value(norm).unwrap(), norm.name());
        }
    }

    /// torchvision: `width = int(planes * (base_width / 64.0)) * groups`.
    #[test]
    fn inner_widths_are_torchvisions() {
        let layer1 = |kind: BackboneKind| kind.spec().inner_width(64);
        assert_eq!(layer1(BackboneKind::ResNet50), 64);
        assert_eq!(layer1(BackboneKind::ResNeXt50_32x4d), 128);
        assert_eq!(layer1(BackboneKind::ResNeXt101_64x4d), 256);
        assert_eq!(layer1(BackboneKind::WideResNet50_2), 128);
    }

    #[test]
    fn narrow_networks_have_whole_channels() {
        assert_eq!(BackboneKind::ResNet50.width_step(), 4);
        assert_eq!(BackboneKind::ResNeXt50_32x4d.width_step(), 16);
        assert_eq!(BackboneKind::WideResNet50_2.width_step(), 4);
    }

    #[test]
    fn groups_always_divide() {
        assert_eq!(groups_for(256, 32), 32);
        assert_eq!(groups_for(48, 32), 24);
        assert_eq!(groups_for(7, 32), 7);
    }
}
