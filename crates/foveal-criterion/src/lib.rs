//! The losses that RetinaNet is trained with (arXiv 1708.02002): a class loss over all anchors and a box loss over the
//! positive anchors, which are those that were matched with an object.
//!
//! [`LossConfig`] is the `loss` section of a configuration, and [`LossConfig::forward`] computes both losses of a
//! batch. [`LossBreakdown`] shows where the class loss comes from, [`PairLoss`] gives it in closed form, and
//! [`FirstLossCheck`] compares the first loss of a run with the closed form.

mod analysis;
mod boxes;
mod breakdown;
mod class;
mod config;
mod kind;
mod losses;
mod mining;
mod overlap;
mod predicted;
mod quality;
mod start;
mod target_tensors;
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
