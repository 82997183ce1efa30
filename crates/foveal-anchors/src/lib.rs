//! foveal-anchors
