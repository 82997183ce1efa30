//! Anchors: their boxes over an image ([`AnchorConfig`]), their matching with objects ([`MatcherConfig`]), the training
//! targets ([`image_targets`]), their coverage of a data set ([`coverage()`]), and fitting them to one ([`fit()`]).
//!
//! The order of anchors in the whole workspace is: level (P3 first), then row, then column, then the anchors of the
//! location. At a location the aspect ratios are the outer loop and the scales the inner loop, as in torchvision.

mod config;
mod coverage;
mod fit;
mod grid;
mod matcher;
mod targets;

pub use config::{AnchorConfig, Anchors, Rounding};
pub use coverage::{Coverage, CoverageSummary, ObjectCoverage, POSITIVE_IOU, SizeBucket, coverage};
pub use fit::{Fit, FitObject, FitOptions, FitScore, LevelUse, fit};
pub use grid::{AnchorGrid, GridSize, LEVELS, STRIDES, grid_sizes};
pub use matcher::{Match, MatcherConfig, MatcherKind};
pub use targets::{BACKGROUND, IGNORE, ImageTargets, MatchedImage, Positive, image_targets, match_image};
