//! foveal-criterion
