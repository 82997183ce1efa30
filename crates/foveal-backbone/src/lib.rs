//! foveal-backbone
