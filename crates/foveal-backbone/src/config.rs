//! The choices that make a backbone.

use foveal_nn::{NORM_GROUPS, NormKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stages of every backbone. Their results have the strides 4, 8, 16 and 32.
pub const STAGES: usize = 4;

/// A backbone (`model.backbone`), named as in torchvision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackboneKind {
    /// ResNet-18: basic blocks (He et al., arXiv 1512.03385, table 1).
    ResNet18,
    /// ResNet-34: basic blocks.
    ResNet34,
    /// ResNet-50: bottlenecks.
    #[default]
    ResNet50,
    /// ResNet-101: bottlenecks.
    ResNet101,
    /// ResNet-152: bottlenecks.
    ResNet152,
    /// ResNeXt-50 with 32 groups of 4 channels (Xie et al., arXiv 1611.05431, table 1).
    #[serde(rename = "resnext50_32x4d")]
    ResNeXt50_32x4d,
    /// ResNeXt-101 with 64 groups of 4 channels.
    #[serde(rename = "resnext101_64x4d")]
    ResNeXt101_64x4d,
    /// ResNet-50 with twice the inner channels in its bottlenecks (Zagoruyko and Komodakis, arXiv 1605.07146).
    #[serde(rename = "wide_resnet50_2")]
    WideResNet50_2,
}

/// The two residual blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Two 3x3 convolutions.
    Basic,
    /// Convolutions of 1x1, 3x3 and 1x1; the last one widens the output fourfold.
    Bottleneck,
}

impl BlockKind {
    /// Output channels over the stage's width.
    pub fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// The structure of a residual network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResNetSpec {
    /// The block that all stages are made of.
    pub block: BlockKind,
    /// Blocks in layer1 .. layer4.
    pub depths: [usize; STAGES],
    /// Groups of the 3x3 convolutions in bottlenecks (ResNeXt's cardinality).
    pub groups: usize,
    /// Inner channels of a group in layer1, which doubles with each stage: 64 in a plain ResNet.
    pub width_per_group: usize,
}

impl ResNetSpec {
    /// Inner channels of a block in a stage of `width` channels (64, 128, 256, 512 in the published networks).
    pub fn inner_width(&self, width: usize) -> usize {
        width * self.width_per_group / PLAIN_WIDTH * self.groups
    }
}

/// `width_per_group` of a plain ResNet.
const PLAIN_WIDTH: usize = 64;
/// The narrowest stem that tests use.
const LEAST_STEP: usize = 4;

impl BackboneKind {
    /// All kinds, plain ResNets by depth first.
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

    /// The name in configs and in torchvision: `resnet50`.
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

    /// What the stem's width must be a multiple of, so that every convolution and group has whole channels.
    pub fn width_step(self) -> usize {
        (1..=PLAIN_WIDTH)
            .find(|step| {
                step.is_multiple_of(LEAST_STEP) && (step * self.spec().width_per_group).is_multiple_of(PLAIN_WIDTH)
            })
            .unwrap_or(PLAIN_WIDTH)
    }

    /// The structure of the network.
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

/// The kind of the backbone's norms (`model.norm`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackboneNorm {
    /// Stored statistics and scale, nothing trained: for pretrained weights and small batches.
    FrozenBatch,
    /// Batch norm.
    Batch,
    /// Group norm: independent of the batch size, the default from scratch.
    #[default]
    Group,
}

impl BackboneNorm {
    /// The layer kind for `channels`; group norm takes 32 groups, or as many as divide the channels.
    pub fn kind(self, channels: usize) -> NormKind {
        match self {
            Self::FrozenBatch => NormKind::Frozen,
            Self::Batch => NormKind::Batch,
            Self::Group => NormKind::Group { groups: groups_for(channels, NORM_GROUPS) },
        }
    }
}

/// The largest number of groups up to `wanted` that divides `channels`.
fn groups_for(channels: usize, wanted: usize) -> usize {
    (1..=wanted.min(channels)).rev().find(|g| channels.is_multiple_of(*g)).unwrap_or(1)
}

/// What the sixth pyramid level is made from (`model.p6_from`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum P6From {
    /// The fifth pyramid level: torchvision's v1, Detectron2's P6 of P5.
    #[default]
    P5,
    /// The backbone's last map: the paper (section 4) and torchvision's v2.
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
