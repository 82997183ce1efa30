//! foveal-image
