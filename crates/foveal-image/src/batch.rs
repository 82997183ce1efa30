//! Images of several sizes in one tensor.

use crate::Prepared;

/// Padded sides are multiples of this many pixels: the stride of P5, the deepest level that halves the backbone's own maps.
pub const SIZE_DIVISOR: usize = 32;

/// A batch of images, each in the top left corner of its plane, zeros (that is, the mean colour) elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PaddedBatch {
    /// `[batch, 3, height, width]`, row-major.
    pub data: Vec<f32>,
    /// Number of images.
    pub batch: usize,
    /// Padded height in pixels.
    pub height: usize,
    /// Padded width in pixels.
    pub width: usize,
}

/// The side in pixels that `length` is padded to.
pub fn padded_length(length: usize) -> usize {
    length.div_ceil(SIZE_DIVISOR) * SIZE_DIVISOR
}

/// Pads all images to the largest height and the largest width among them, rounded up to [`SIZE_DIVISOR`].
pub fn pad_batch(images: &[Prepared]) -> PaddedBatch {
    let height = padded_length(images.iter().map(|i| i.height).max().unwrap_or(0));
    let width = padded_length(images.iter().map(|i| i.width).max().unwrap_or(0));
    let mut data = vec![0.0; images.len() * 3 * height * width];
    let plane = height * width;
    for (target, image) in data.chunks_exact_mut((3 * plane).max(1)).zip(images) {
        let planes = image.data.chunks_exact(image.height * image.width);
        for (to, from) in target.chunks_exact_mut(plane).zip(planes) {
            for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(image.width)) {
                to[..image.width].copy_from_slice(from);
            }
        }
    }
    PaddedBatch { data, batch: images.len(), height, width }
}
