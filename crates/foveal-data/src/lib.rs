//! From a config to batches: data sets and their checks, augmentation, target assignment, the loading pipeline, the
//! generated `shapes` set, and converters.
//!
//! ```text
//! DataConfig::open_train -> Opened { dataset, report } -> loader(dataset, seed, epoch) -> Batch { images, targets, info }
//! ```
//!
//! Every random decision is a function of (seed, epoch, index) alone, never of threads or time.

mod augment;
mod check;
mod color;
mod config;
mod convert;
mod counts;
mod coverage;
mod dataset;
mod error;
mod loader;
mod open;
mod random;
mod report;
mod sample;
mod sampler;
pub mod shapes;
mod stats;

pub use config::{AugmentConfig, ColorJitter, DataConfig, OnError, SetConfig, Source};
pub use convert::{Converted, VocOptions, convert_voc};
pub use counts::{ClassCounts, TargetCounts};
pub use coverage::SetCoverage;
pub use dataset::{Dataset, Object, Opened, Record};
pub use error::DataError;
pub use loader::{Batch, ImageInfo, Loader, LoaderOptions, loader};
pub use random::Stream;
pub use report::{CheckReport, Findings, Problem, Skipped};
pub use sampler::{Sampler, epoch_len, epoch_order, repeats};
pub use shapes::{ShapesConfig, write_shapes};
pub use stats::Stats;
