//! The network: its backbone, widths and norms.

use serde::Serialize;

use super::Setting;
use super::schedule::{Budget, enough_images};
use crate::commands::init::facts::{Facts, WeightFacts};

/// The widths of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Network {
    /// Output channels of the stem (`model.base_width`).
    pub base_width: usize,
    /// Channels of the feature pyramid and the heads (`model.fpn_channels`).
    pub fpn_channels: usize,
    /// Number of convolutions of each head before its output layer (`model.head.convs`).
    pub head_convs: usize,
}

/// With weights on a CPU: the widths of configs/bccd.toml.
const LIGHT: Network = Network { base_width: 64, fpn_channels: 64, head_convs: 2 };
/// With a backbone of basic blocks on a GPU.
const MIDDLE: Network = Network { base_width: 64, fpn_channels: 128, head_convs: 4 };
/// With a backbone of bottlenecks on a GPU: the widths of the paper (arXiv 1708.02002, section 4).
const FULL: Network = Network { base_width: 64, fpn_channels: 256, head_convs: 4 };
/// From scratch on a CPU: the widths of configs/quickstart.toml.
const HALF: Network = Network { base_width: 32, fpn_channels: 64, head_convs: 2 };
/// From scratch on a CPU in a short time: the widths of configs/longtail.toml.
const QUARTER: Network = Network { base_width: 16, fpn_channels: 32, head_convs: 2 };

impl Network {
    /// The estimated time of a step relative to that of the network `other`, for images of the same size. The product
    /// of the widths stands for the multiply-adds; the exponent is below 1, because narrow maps are bound by memory.
    /// The time of the chosen network is measured before the file is written.
    pub(super) fn time_relative_to(self, other: Self) -> f64 {
        let cost = |network: Self| (network.base_width * network.fpn_channels) as f64;
        (cost(self) / cost(other)).powf(0.75)
    }
}

/// Chooses the widths. A time that is too short for the wider network halves it.
pub(super) fn choose(facts: &Facts, epoch_images: usize) -> Network {
    match (&facts.weights, facts.device.is_cpu) {
        (Some(WeightFacts::Checkpoint { settings, .. }), _) => of_checkpoint(settings),
        (Some(WeightFacts::Backbone { .. }), true) => LIGHT,
        (Some(WeightFacts::Backbone { bottleneck, .. }), false) => {
            if *bottleneck {
                FULL
            } else {
                MIDDLE
            }
        }
        (None, false) => MIDDLE,
        (None, true) => {
            let input = super::input::choose(facts, HALF, epoch_images);
            let short = Budget::of(facts).is_some_and(|budget| {
                budget.images(HALF, input.size) < 0.5 * enough_images(facts, epoch_images) as f64
            });
            if short { QUARTER } else { HALF }
        }
    }
}

/// The widths of a checkpoint, whose settings are those that differ from the defaults.
fn of_checkpoint(settings: &[(String, toml::Value)]) -> Network {
    let number = |key: &str, default: usize| {
        let found = settings.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.as_integer());
        found.and_then(|value| usize::try_from(value).ok()).unwrap_or(default)
    };
    Network {
        base_width: number("model.base_width", FULL.base_width),
        fpn_channels: number("model.fpn_channels", FULL.fpn_channels),
        head_convs: number("model.head.convs", FULL.head_convs),
    }
}

pub(super) fn explain(facts: &Facts, network: Network, settings: &mut Vec<Setting>, warnings: &mut Vec<String>) {
    let mut add = |key: &str, value: toml::Value, reason: &str| settings.push(Setting::new(key, value, reason));
    match &facts.weights {
        Some(WeightFacts::Checkpoint { settings: of_checkpoint, .. }) => {
            for (key, value) in of_checkpoint {
                add(key, value.clone(), "The value of the checkpoint, so that its layers can be loaded.");
            }
            return;
        }
        Some(WeightFacts::Backbone { backbone, norm, present, missing, .. }) => {
            let lacks = match missing {
                0 => "the whole network".to_owned(),
                n => format!("{present} of its {} tensors; the others start from random values", present + n),
            };
            add(
                "model.backbone",
                backbone.as_str().into(),
                &format!("The network in the weight file, which holds {lacks}."),
            );
            if norm == "frozen_batch" {
                let reason =
                    "The statistics of the weight file are kept, because those of small batches are too uncertain.";
                add("model.norm", norm.as_str().into(), reason);
            } else {
                add("model.norm", norm.as_str().into(), "The weight file has these norms, which have no statistics.");
            }
            let reason = "The stem and layer1 are not trained: their features are general, and steps take less time \
                          (Detectron2 and MMDetection freeze them too).";
            add("model.freeze_stages", 2.into(), reason);
        }
        None => {
            add(
                "model.backbone",
                "resnet18".into(),
                "The smallest backbone, because the network starts from random weights.",
            );
            if network.base_width != FULL.base_width {
                let reason = format!(
                    "{} channels instead of the usual 64, because a CPU has the time to train only a narrow network \
                     from random weights.",
                    network.base_width
                );
                add("model.base_width", (network.base_width as i64).into(), &reason);
            }
            let reason = "Group norm suits training from random weights, because it does not depend on the size of the \
                          batch.";
            add("model.norm", "group".into(), reason);
            warnings.push(
                "without --weights the network starts from random values, and needs three times as many images as for \
                 fine-tuning. scripts/get_weights resnet18 downloads ImageNet weights"
                    .to_owned(),
            );
        }
    }
    let device = if facts.device.is_cpu { "a CPU" } else { "a GPU" };
    let reason = format!("Width of the pyramid and the heads, chosen for {device} (256 in arXiv 1708.02002).");
    add("model.fpn_channels", (network.fpn_channels as i64).into(), &reason);
    let reason = format!("Convolutions of each head, chosen for {device} (4 in arXiv 1708.02002).");
    add("model.head.convs", (network.head_convs as i64).into(), &reason);
    let reason = "Group norm in the heads, as in configs/bccd.toml and torchvision's retinanet_resnet50_fpn_v2.";
    add("model.head.norm", "group".into(), reason);
    let groups = (network.fpn_channels / 4).min(32) as i64;
    add("model.head.groups", groups.into(), "Each group has four or more channels.");
}
