//! The `data.cache` section of a configuration.

use std::path::PathBuf;

use foveal_base::{SettingError, check};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Source;

/// Default limit of a cache in MiB.
const LIMIT_MB: u64 = 2048;
/// Largest limit of a cache in MiB: a pebibyte.
const MOST_MB: u64 = 1 << 30;
/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// Where images are kept once they are decoded (`data.cache.kind`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheKind {
    /// Nowhere: an image is decoded each time that it is used. This is the default.
    #[default]
    Off,
    /// In the memory of the process.
    Memory,
    /// In the files of a folder, which runs can share.
    Disk,
}

/// A cache of decoded and resized images (`data.cache`). The batches are the same with and without it.
///
/// An image that is first of all resized, to at most half of its pixels, is kept in its final size, once for each of
/// the flips that occur. That requires `data.resize = "antialias"` and, in training, no `transforms`, `color_jitter`,
/// `scale_jitter` and `min_sizes` in `data.augment`. All other images are kept as they were decoded, with 3 bytes a
/// pixel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Where images are kept. Default: `off`.
    pub kind: CacheKind,
    /// Largest size of the cache in MiB, at least 1. An image that does not fit any more is decoded each time that it
    /// is used; none is removed for it. Default: 2048.
    pub limit_mb: u64,
    /// Path of the folder of `kind = "disk"`, which is created if it does not exist. Its files are never removed, so
    /// that a folder whose images or settings have changed is better deleted. Not set by default.
    pub dir: Option<PathBuf>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { kind: CacheKind::default(), limit_mb: LIMIT_MB, dir: None }
    }
}

impl CacheConfig {
    /// The limit in bytes.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_mb.saturating_mul(MIB)
    }

    /// Checks the settings for a data set of this source.
    ///
    /// # Errors
    /// A [`SettingError`] with the key (relative to `data.cache`) for a cache of generated images, a limit outside 1 to
    /// 2^30 MiB, or a cache on disk without a folder.
    pub(crate) fn validate(&self, source: Source) -> Result<(), SettingError> {
        check::count("limit_mb", self.limit_mb, 1..=MOST_MB)?;
        let expected = "\"off\", because data.source is \"shapes\", whose images are drawn once and kept in memory";
        check::that(self.kind == CacheKind::Off || source != Source::Shapes, "kind", expected, &self.kind)?;
        let expected = "the path of a folder, because kind is \"disk\"";
        check::that(self.kind != CacheKind::Disk || self.dir.is_some(), "dir", expected, &self.dir)
    }
}
