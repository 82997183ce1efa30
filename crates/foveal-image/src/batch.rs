//! Images of several sizes in one tensor.

use image::RgbImage;

use crate::{ImageFrame, Prepared, Preprocess};

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

/// One image at its size in the batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Staged {
    /// Not yet normalised, which then happens on the way into the batch.
    Bytes {
        /// The resized pixels.
        image: RgbImage,
        /// Width in pixels before resizing.
        original_width: u32,
        /// Height in pixels before resizing.
        original_height: u32,
    },
    /// Normalised.
    Prepared(Prepared),
}

impl Staged {
    /// Width in pixels after resizing.
    pub fn width(&self) -> usize {
        match self {
            Self::Bytes { image, .. } => image.width() as usize,
            Self::Prepared(p) => p.width,
        }
    }

    /// Height in pixels after resizing.
    pub fn height(&self) -> usize {
        match self {
            Self::Bytes { image, .. } => image.height() as usize,
            Self::Prepared(p) => p.height,
        }
    }

    /// The image's sizes before and after resizing.
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

/// The side in pixels that `length` is padded to.
pub fn padded_length(length: usize) -> usize {
    length.div_ceil(SIZE_DIVISOR) * SIZE_DIVISOR
}

/// Pads all images to the largest height and the largest width among them, rounded up to [`SIZE_DIVISOR`].
pub fn pad_batch(images: &[Prepared]) -> PaddedBatch {
    let rows = |image: &Prepared, channel: usize, y: usize, out: &mut Vec<f32>| push_row(image, channel, y, out);
    pad(images, |i| (i.height, i.width), rows)
}

/// As [`pad_batch`]; what is not yet normalised is so with `preprocess`, in one pass with the padding.
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
    pad(images, |i| (i.height(), i.width()), rows)
}

fn push_row(image: &Prepared, channel: usize, y: usize, out: &mut Vec<f32>) {
    out.extend_from_slice(&image.data[(channel * image.height + y) * image.width..][..image.width]);
}

/// Writes the batch once, front to back. `size` is an image's height and width; `push_row` appends a row of a channel.
fn pad<T>(
    images: &[T],
    size: impl Fn(&T) -> (usize, usize),
    push_row: impl Fn(&T, usize, usize, &mut Vec<f32>),
) -> PaddedBatch {
    let height = padded_length(images.iter().map(|i| size(i).0).max().unwrap_or(0));
    let width = padded_length(images.iter().map(|i| size(i).1).max().unwrap_or(0));
    let mut data = Vec::with_capacity(images.len() * 3 * height * width);
    for (index, image) in images.iter().enumerate() {
        for channel in 0..3 {
            for y in 0..size(image).0 {
                push_row(image, channel, y, &mut data);
                data.resize(((index * 3 + channel) * height + y + 1) * width, 0.0);
            }
            data.resize((index * 3 + channel + 1) * height * width, 0.0);
        }
    }
    PaddedBatch { data, batch: images.len(), height, width }
}
