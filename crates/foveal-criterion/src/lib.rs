//! What RetinaNet is trained on: a class loss over all anchors and a box loss over those that hold an object.

mod analysis;
mod boxes;
mod class;
mod config;
mod losses;

pub use analysis::{PairLoss, Scores, Sums, prior_bias};
pub use config::{BoxLossKind, ClassLossChoice, LossConfig, NormalizerKind};
pub use losses::{Losses, Normalizer};
