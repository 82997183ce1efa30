//! The choices that make a backbone.

use foveal_nn::{NORM_GROUPS, NormKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A residual network of He et al. (arXiv 1512.03385, table 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackboneKind {
    /// 18 layers, basic blocks.
    ResNet18,
    /// 34 layers, basic blocks.
    ResNet34,
    /// 50 layers, bottlenecks.
    #[default]
    ResNet50,
    /// 101 layers, bottlenecks.
    ResNet101,
    /// 152 layers, bottlenecks.
    ResNet152,
}

/// The two residual blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, 1x1 with four times the channels out.
    Bottleneck,
}

impl BlockKind {
    /// Output channels over inner channels.
    pub fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

impl BackboneKind {
    /// All of them, by depth.
    pub const ALL: [Self; 5] = [Self::ResNet18, Self::ResNet34, Self::ResNet50, Self::ResNet101, Self::ResNet152];

    /// Its name in configs: `resnet50`.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The block it is made of.
    pub fn block(self) -> BlockKind {
        match self {
            Self::ResNet18 | Self::ResNet34 => BlockKind::Basic,
            _ => BlockKind::Bottleneck,
        }
    }

    /// Blocks in layer1 .. layer4.
    pub fn depths(self) -> [usize; 4] {
        match self {
            Self::ResNet18 => [2, 2, 2, 2],
            Self::ResNet34 | Self::ResNet50 => [3, 4, 6, 3],
            Self::ResNet101 => [3, 4, 23, 3],
            Self::ResNet152 => [3, 8, 36, 3],
        }
    }
}

/// The kind of the backbone's norms (`model.norm`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormChoice {
    /// Stored statistics and scale, nothing trained: for pretrained weights and small batches.
    FrozenBatch,
    /// Batch norm.
    Batch,
    /// Group norm: independent of the batch size, the default from scratch.
    #[default]
    Group,
}

impl NormChoice {
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
    fn groups_always_divide() {
        assert_eq!(groups_for(256, 32), 32);
        assert_eq!(groups_for(48, 32), 24);
        assert_eq!(groups_for(7, 32), 7);
    }
}
