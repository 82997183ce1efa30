//! A training image on its way through the transforms.

use foveal_image::RgbImage;

use crate::augment::Size;
use crate::labels::Labels;

/// An image on its way from its file to its batch: the decoded pixels with the objects in pixels of the image. Every
/// transform leaves all boxes inside the image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Working {
    /// The pixels.
    pub image: RgbImage,
    /// The objects and ignored regions.
    pub labels: Labels,
    /// Whether the image has its final size already, so that it is not resized after the transforms.
    pub sized: bool,
}

impl Working {
    /// Size of the image in pixels.
    pub(crate) fn size(&self) -> Size {
        let (width, height) = self.image.dimensions();
        Size { width, height }
    }
}
