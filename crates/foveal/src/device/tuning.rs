//! Whether the results of tuning GPU kernels are kept, and where.

/// Whether this build keeps the results of tuning for later processes.
pub(crate) const TUNING_IS_KEPT: bool = cfg!(feature = "tuning-cache");

/// Has CubeCL keep the results of tuning in the cache folder of the user, instead of a `target` folder above the
/// working directory. Its other settings are those of `cubecl.toml`, `burn.toml` and the environment, as without this
/// call. It must be called before a GPU is opened.
#[cfg(feature = "tuning-cache")]
pub(crate) fn keep_tuning() {
    use cubecl::config::cache::CacheConfig;
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.environment.path = CacheConfig::Global;
    // A second call, for the next adapter that `auto` tries, changes nothing.
    let _ = CubeClRuntimeConfig::try_set(config);
}

/// Does nothing: this build keeps no results of tuning.
#[cfg(not(feature = "tuning-cache"))]
pub(crate) fn keep_tuning() {}
