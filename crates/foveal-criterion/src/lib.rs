//! What RetinaNet is trained on: a class loss over all anchors and a box loss over those that hold an object.

mod analysis;
mod boxes;
mod breakdown;
mod class;
mod config;
mod kind;
mod losses;
mod mining;
mod predicted;
mod quality;
mod start;
mod weights;

pub use analysis::{PairLoss, Scores, Sums, prior_bias};
pub use breakdown::{
    AnchorCounts, BatchBreakdown, BinRecord, BreakdownRecord, ClassRecord, LevelRecord, LossBreakdown, SideRecord,
};
pub use config::{BoxLossKind, ClassWeightRule, ClassWeights, LossConfig, NormalizerKind, PerClass};
pub use foveal_kernels::BreakdownLayout;
pub use kind::ClassLossKind;
pub use losses::{Losses, Normalizer, SmoothedPositives};
pub use start::{Expected, Fault, FirstLossCheck, TOLERANCE};
pub use weights::{effective_number, inverse_frequency};

// Targets are made by foveal-anchors and read by foveal-kernels, neither of which knows the other.
const _: () = assert!(foveal_anchors::BACKGROUND == foveal_kernels::BACKGROUND);
const _: () = assert!(foveal_anchors::IGNORE == foveal_kernels::IGNORE);
const _: () = assert!(foveal_anchors::LEVELS == foveal_kernels::BREAKDOWN_LEVELS);
