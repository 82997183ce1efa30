//! foveal-coco
