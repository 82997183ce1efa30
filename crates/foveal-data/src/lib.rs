//! foveal-data
