//! Batches whose pixels are still bytes: a quarter of the memory while they wait and on the way to a GPU, which
//! normalises them itself.

use image::RgbImage;

use crate::batch::{pad, padded_sides};
use crate::{PaddedBatch, Preprocess, Staged, pad_staged};

/// Number of values that a byte can have, which is the number of entries of a channel's table.
const BYTE_VALUES: usize = 256;
/// Number of bytes of a word of the buffer that is uploaded to a GPU.
const WORD: usize = 4;

/// A batch of images of one padded size, as the network's input on its way to the device.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageBatch {
    /// The pixels are normalised values in `f32`.
    Normalised(PaddedBatch),
    /// The pixels are bytes that are yet to be normalised.
    Bytes(ByteBatch),
}

impl Default for ImageBatch {
    /// A batch without images.
    fn default() -> Self {
        Self::Normalised(PaddedBatch::default())
    }
}

impl From<PaddedBatch> for ImageBatch {
    fn from(batch: PaddedBatch) -> Self {
        Self::Normalised(batch)
    }
}

impl ImageBatch {
    /// Makes a batch of staged images. The pixels stay bytes if those of all images are bytes; otherwise the batch is
    /// that of [`pad_staged`].
    ///
    /// All images are padded at the bottom and on the right to the largest height and the largest width among them,
    /// rounded up to multiples of [`crate::SIZE_DIVISOR`].
    pub fn stack(images: &[Staged], preprocess: &Preprocess) -> Self {
        let bytes = images.iter().map(|staged| match staged {
            Staged::Bytes { image, .. } => Some(image),
            Staged::Prepared(_) => None,
        });
        match bytes.collect::<Option<Vec<&RgbImage>>>() {
            Some(bytes) if !bytes.is_empty() => Self::Bytes(ByteBatch::new(&bytes, preprocess)),
            _ => Self::Normalised(pad_staged(images, preprocess)),
        }
    }

    /// Returns the number of images in the batch.
    pub fn batch(&self) -> usize {
        match self {
            Self::Normalised(batch) => batch.batch,
            Self::Bytes(batch) => batch.sizes.len(),
        }
    }

    /// Returns the padded height in pixels, a multiple of [`crate::SIZE_DIVISOR`].
    pub fn height(&self) -> usize {
        match self {
            Self::Normalised(batch) => batch.height,
            Self::Bytes(batch) => batch.height,
        }
    }

    /// Returns the padded width in pixels, a multiple of [`crate::SIZE_DIVISOR`].
    pub fn width(&self) -> usize {
        match self {
            Self::Normalised(batch) => batch.width,
            Self::Bytes(batch) => batch.width,
        }
    }

    /// The batch with normalised pixels. Its values equal those of [`pad_staged`] bit for bit.
    pub fn into_normalised(self) -> PaddedBatch {
        match self {
            Self::Normalised(batch) => batch,
            Self::Bytes(batch) => batch.normalised(),
        }
    }
}

/// A batch of resized 8-bit images of one padded size, with the table that normalises them. Each image lies in the top
/// left corner of its plane.
///
/// The batch is kept as the one buffer that is uploaded to a GPU, in words of 32 bits: the height and the width of each
/// image in pixels without padding (`[batch, 2]`, integers), the normalised value of each byte for each channel (`[3,
/// 256]`, the bits of `f32` values), and the pixels (`[batch, height, width, 3]`, four bytes in a word, the first byte
/// in the lowest bits). The bytes of the padding are 0 and have no meaning: the padding of a normalised batch is 0.
#[derive(Clone, Debug, PartialEq)]
pub struct ByteBatch {
    packed: Vec<u8>,
    /// Height and width in pixels of each image, without padding.
    sizes: Vec<[usize; 2]>,
    /// The normalised value of each byte for each channel.
    tables: Box<[[f32; BYTE_VALUES]; 3]>,
    /// Padded height in pixels.
    height: usize,
    /// Padded width in pixels.
    width: usize,
}

impl ByteBatch {
    fn new(images: &[&RgbImage], preprocess: &Preprocess) -> Self {
        let sizes: Vec<[usize; 2]> = images.iter().map(|i| [i.height() as usize, i.width() as usize]).collect();
        let [height, width] = padded_sides(sizes.iter().copied());
        let tables = Box::new(preprocess.tables());
        let header = sizes.as_flattened().iter().map(|side| *side as u32);
        let header = header.chain(tables.as_flattened().iter().map(|value| value.to_bits()));
        let row = width * 3;
        let words = 2 * sizes.len() + 3 * BYTE_VALUES;
        let mut packed = Vec::with_capacity(words * WORD + sizes.len() * height * row);
        packed.extend(header.flat_map(u32::to_le_bytes));
        for image in images {
            let end = packed.len() + height * row;
            for pixels in image.as_raw().chunks_exact(image.width() as usize * 3) {
                let row_end = packed.len() + row;
                packed.extend_from_slice(pixels);
                packed.resize(row_end, 0);
            }
            packed.resize(end, 0);
        }
        Self { packed, sizes, tables, height, width }
    }

    /// Returns the number of images, the padded height and the padded width in pixels.
    pub fn dims(&self) -> [usize; 3] {
        [self.sizes.len(), self.height, self.width]
    }

    /// The buffer that is uploaded to a GPU, whose layout is described at [`ByteBatch`]. Its length is a multiple of 4
    /// bytes.
    pub fn into_packed(self) -> Vec<u8> {
        self.packed
    }

    /// The batch with normalised pixels.
    fn normalised(&self) -> PaddedBatch {
        let pixels = &self.packed[(2 * self.sizes.len() + 3 * BYTE_VALUES) * WORD..];
        let images: Vec<usize> = (0..self.sizes.len()).collect();
        let size = |image: &usize| self.sizes[*image];
        pad(&images, size, |image, channel, y, out| {
            let start = (image * self.height + y) * self.width * 3;
            let (table, row) = (&self.tables[channel], &pixels[start..][..self.sizes[*image][1] * 3]);
            out.extend(row.chunks_exact(3).map(|pixel| table[usize::from(pixel[channel])]));
        })
    }
}
