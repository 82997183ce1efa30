//! foveal-heads
