//! The sizes of an image before and after resizing.

use crate::Prepared;

/// The size of an image before and after resizing, in pixels and without padding. The ratio of the two converts boxes
/// back to the original image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFrame {
    /// Width of the image in pixels after resizing, without padding.
    pub width: usize,
    /// Height of the image in pixels after resizing, without padding.
    pub height: usize,
    /// Width of the image in pixels before resizing.
    pub original_width: u32,
    /// Height of the image in pixels before resizing.
    pub original_height: u32,
}

impl From<&Prepared> for ImageFrame {
    fn from(image: &Prepared) -> Self {
        Self {
            width: image.width,
            height: image.height,
            original_width: image.original_width,
            original_height: image.original_height,
        }
    }
}
