//! A figure of a generated image.

use foveal_boxes::BBox;

use super::kind::Outline;

/// One geometric figure of a [`Scene`](super::Scene): an object of the generated data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The class of the figure, which is its index in [`Kind::ALL`](super::Kind::ALL).
    pub class: u32,
    /// The bounding box in pixels of the image. The figure touches all four sides.
    pub bbox: BBox,
    /// The outline in pixels.
    pub(super) outline: Outline,
    /// The colour as RGB in levels of 0 to 255.
    pub(super) color: [f32; 3],
}
