//! foveal-eval
