//! foveal-boxes
