//! What RetinaNet is trained on: a class loss over all anchors and a box loss over those that hold an object.

mod analysis;
mod boxes;
mod breakdown;
mod class;
mod config;
mod losses;
mod mining;
mod quality;
mod start;
mod weights;

pub use analysis::{PairLoss, Scores, Sums, prior_bias};
pub use breakdown::{
    AnchorCounts, BatchBreakdown, BinRecord, BreakdownRecord, ClassRecord, LevelRecord, LossBreakdown, SideRecord,
};
pub use config::{BoxLossKind, ClassLossChoice, ClassWeightRule, ClassWeights, LossConfig, NormalizerKind, PerClass};
pub use foveal_kernels::BreakdownLayout;
pub use losses::{Losses, Normalizer, SmoothedPositives};
pub use start::{Expected, Fault, FirstLossCheck, TOLERANCE};
pub use weights::{effective_number, inverse_frequency};
