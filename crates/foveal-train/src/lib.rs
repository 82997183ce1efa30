//! foveal-train
