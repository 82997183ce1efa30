//! foveal-detector
