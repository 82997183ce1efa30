//! Data sets from a configuration to batches: opening and checking a set, augmentation, target assignment, loading in
//! worker threads, and the generated `shapes` data set.
//!
//! ```text
//! DataConfig::open_train -> Opened { dataset, report }
//! loader(dataset, config, options, epoch) -> Loader, an iterator over Batch { images, targets, objects, info }
//! ```
//!
//! Every random value is a function of the seed, the epoch and the index of the image. It does not depend on the number
//! of threads or on time.

mod audit;
mod augment;
mod cache;
mod check;
mod color;
mod config;
mod counts;
mod coverage;
mod dataset;
mod decode;
mod error;
mod fit;
mod grouping;
mod holdout;
mod labels;
mod loader;
mod located;
mod object_counts;
mod open;
mod percentile;
mod problem;
mod report;
mod resized;
mod same;
mod sample;
mod sampler;
mod sets;
pub mod shapes;
mod stats;
mod symmetry;
mod transforms;
mod unusable;

pub use audit::{AuditSet, Case, Look, Spot, audit};
pub use augment::PlacedObjects;
pub use cache::{CacheConfig, CacheCounts, CacheKind, ImageCache};
pub use config::{AugmentConfig, ColorJitter, DataConfig, OnError, SetConfig, Source};
pub use counts::{ClassCounts, TargetCounts};
pub use coverage::SetCoverage;
pub use dataset::{Dataset, Object, Opened, Record};
pub use error::DataError;
pub use fit::{SetFit, SetFitOptions, fit_set};
pub use foveal_base::Stream;
pub use grouping::epoch_batches;
pub use holdout::Holdout;
pub use loader::{Batch, ImageInfo, Loader, LoaderOptions, cached_loader, loader};
pub use object_counts::ObjectCounts;
pub use percentile::percentiles;
pub use problem::Problem;
pub use report::{CheckReport, Findings, Skipped};
pub use resized::ResizedStats;
pub use same::same_images;
pub use sampler::{Sampler, epoch_len, epoch_order, image_repeat_factors};
pub use sets::{ClassesConfig, DroppedObjects, MoreSet, Part, PartUse, TrainSet, join_sets, part_uses};
pub use shapes::{ShapesConfig, write_shapes};
pub use stats::{ClassStats, Stats};
pub use symmetry::{ClassSymmetry, Symmetry};
pub use transforms::{
    Affine, Blur, CopyPaste, Erasing, Filling, Gamma, Grey, Hsv, Jpeg, LargeScaleJitter, Mixup, Mosaic, Noise,
    QuarterTurns, RandomCrop, Transform, TransformCost, TransformCosts, TransformTime, TransformTimes, ZoomOut,
};
