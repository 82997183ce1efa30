//! foveal-kernels
