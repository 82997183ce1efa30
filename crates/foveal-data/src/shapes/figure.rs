//! A figure on a generated image.

use foveal_boxes::BBox;

use super::kind::Outline;

/// One figure of a scene.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Class.
    pub class: u32,
    /// Pixels; the figure touches all four sides.
    pub bbox: BBox,
    pub(super) outline: Outline,
    /// RGB, 0 to 255.
    pub(super) color: [f32; 3],
}
