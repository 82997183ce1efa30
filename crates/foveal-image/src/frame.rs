//! The sizes of an image.

use crate::Prepared;

/// The size of an image before and after resizing, without padding, in pixels: what brings boxes back to the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFrame {
    /// Width after resizing.
    pub width: usize,
    /// Height after resizing.
    pub height: usize,
    /// Width of the original.
    pub original_width: u32,
    /// Height of the original.
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
