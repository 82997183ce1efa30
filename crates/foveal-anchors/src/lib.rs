//! Anchors: how they tile an image, which object each one answers for, and how well they cover a data set.
//!
//! Anchor order is defined here, once: level (P3 first), then row, then column, then cell; within a cell the ratios are
//! the outer loop and the octave scales the inner one, as in torchvision.

mod config;
mod coverage;
mod grid;
mod matcher;
mod targets;

pub use config::{AnchorConfig, Anchors, Rounding};
pub use coverage::{Coverage, CoverageSummary, ObjectCoverage, POSITIVE_IOU, SizeBucket, coverage};
pub use grid::{GridSize, LEVELS, STRIDES, grid_sizes};
pub use matcher::{Match, MatcherConfig};
pub use targets::{BACKGROUND, IGNORE, ImageTargets, Positive, image_targets};
