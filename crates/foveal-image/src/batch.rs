//! Batches: images of different sizes, padded to one size in one tensor.

use image::RgbImage;

use crate::{ImageFrame, Prepared, Preprocess};

/// The height and width of a padded batch are multiples of this many pixels: 32, the stride of the last stage of the
/// backbone (as `size_divisible` of torchvision's `GeneralizedRCNNTransform`).
pub const SIZE_DIVISOR: usize = 32;

/// A batch of normalised images of one padded size. Each image lies in the top left corner of its planes; the padding
/// is zero, which is the mean colour.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PaddedBatch {
    /// Normalised RGB values, `[batch, 3, height, width]`, row-major.
    pub data: Vec<f32>,
    /// Number of images in the batch.
    pub batch: usize,
    /// Padded height in pixels, a multiple of [`SIZE_DIVISOR`].
    pub height: usize,
    /// Padded width in pixels, a multiple of [`SIZE_DIVISOR`].
    pub width: usize,
}

/// One resized image that waits for its batch. Where possible its pixels are kept as bytes, a quarter of the memory;
/// [`crate::ImageBatch::stack`] keeps them so, and [`pad_staged`] normalises them while it copies them into the batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Staged {
    /// A resized image whose 8-bit pixels are not normalised yet.
    Bytes {
        /// The resized 8-bit RGB pixels.
        image: RgbImage,
        /// Width in pixels before resizing.
        original_width: u32,
        /// Height in pixels before resizing.
        original_height: u32,
    },
    /// A resized image that is already normalised.
    Prepared(Prepared),
}

impl Staged {
    /// Returns the width of the image in pixels after resizing, without padding.
    pub fn width(&self) -> usize {
        match self {
            Self::Bytes { image, .. } => image.width() as usize,
            Self::Prepared(p) => p.width,
        }
    }

    /// Returns the height of the image in pixels after resizing, without padding.
    pub fn height(&self) -> usize {
        match self {
            Self::Bytes { image, .. } => image.height() as usize,
            Self::Prepared(p) => p.height,
        }
    }

    /// Sizes of the image in pixels before and after resizing.
    pub fn frame(&self) -> ImageFrame {
        match self {
            Self::Bytes { original_width, original_height, .. } => ImageFrame {
                width: self.width(),
                height: self.height(),
                original_width: *original_width,
                original_height: *original_height,
            },
            Self::Prepared(prepared) => prepared.into(),
        }
    }
}

/// The padded length in pixels of an image side of `length` pixels: the next multiple of [`SIZE_DIVISOR`].
pub fn padded_length(length: usize) -> usize {
    length.div_ceil(SIZE_DIVISOR) * SIZE_DIVISOR
}

/// Makes a batch of normalised images. All are padded with zeros at the bottom and on the right to the largest height
/// and the largest width among them, rounded up to multiples of [`SIZE_DIVISOR`], as torchvision's `batch_images` does.
pub fn pad_batch(images: &[Prepared]) -> PaddedBatch {
    let rows = |image: &Prepared, channel: usize, y: usize, out: &mut Vec<f32>| push_row(image, channel, y, out);
    pad(images, |i| [i.height, i.width], rows)
}

/// Makes a batch of staged images. Images that are still bytes are normalised with the mean and the standard deviation
/// of `preprocess` while they are copied.
///
/// All images are padded with zeros at the bottom and on the right to the largest height and the largest width among
/// them, rounded up to multiples of [`SIZE_DIVISOR`].
pub fn pad_staged(images: &[Staged], preprocess: &Preprocess) -> PaddedBatch {
    let tables = preprocess.tables();
    let rows = |image: &Staged, channel: usize, y: usize, out: &mut Vec<f32>| match image {
        Staged::Prepared(prepared) => push_row(prepared, channel, y, out),
        Staged::Bytes { image, .. } => {
            let row = image.width() as usize * 3;
            let (table, bytes) = (&tables[channel], &image.as_raw()[y * row..][..row]);
            out.extend(bytes.chunks_exact(3).map(|pixel| table[usize::from(pixel[channel])]));
        }
    };
    pad(images, |i| [i.height(), i.width()], rows)
}

fn push_row(image: &Prepared, channel: usize, y: usize, out: &mut Vec<f32>) {
    out.extend_from_slice(&image.data[(channel * image.height + y) * image.width..][..image.width]);
}

/// The padded height and width in pixels of a batch of images of these heights and widths.
pub(crate) fn padded_sides(sizes: impl Iterator<Item = [usize; 2]>) -> [usize; 2] {
    sizes.fold([0, 0], |[h, w], [height, width]| [h.max(height), w.max(width)]).map(padded_length)
}

/// Writes the batch from front to back in one pass. `size` gives the height and width of an image; `push_row` appends
/// row `y` of a channel of an image.
pub(crate) fn pad<T>(
    images: &[T],
    size: impl Fn(&T) -> [usize; 2],
    push_row: impl Fn(&T, usize, usize, &mut Vec<f32>),
) -> PaddedBatch {
    let [height, width] = padded_sides(images.iter().map(&size));
    let mut data = Vec::with_capacity(images.len() * 3 * height * width);
    for (index, image) in images.iter().enumerate() {
        for channel in 0..3 {
            for y in 0..size(image)[0] {
                push_row(image, channel, y, &mut data);
                data.resize(((index * 3 + channel) * height + y + 1) * width, 0.0);
            }
            data.resize((index * 3 + channel + 1) * height * width, 0.0);
        }
    }
    PaddedBatch { data, batch: images.len(), height, width }
}
