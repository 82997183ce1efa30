//! What a decoded image looks like, small enough to be kept for every image of a data set.

use foveal_image::RgbImage;

/// Rows and columns of the cells of the small image.
pub(super) const SIDE: usize = 16;
/// Columns and rows of the image whose neighbouring cells are compared for the hash.
const HASHED: [usize; 2] = [9, 8];
/// Largest difference of the values of one channel of an image of a single colour, in levels of 0 to 255.
const SINGLE: u8 = 6;
/// Largest difference of the channels of a pixel of a grey image, in levels of 0 to 255. In a JPEG file with three
/// channels they differ by rounding.
const GREY: u8 = 2;

/// What a decoded image looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// The difference hash (dHash) of 64 bits: of 9x8 cells of mean brightness, whether each is darker than its right
    /// neighbour. Compression and resizing change few bits.
    pub(super) hash: u64,
    /// Mean brightness of 16x16 cells: `[rows * columns]`.
    pub(super) cells: [u8; SIDE * SIDE],
    /// Mean of each channel.
    pub(super) means: [f32; 3],
    /// Whether all pixels have nearly the same colour.
    pub(super) single: bool,
    /// Whether no pixel has a colour.
    pub(super) grey: bool,
}

impl Look {
    /// Looks at an image, of at least one pixel.
    pub fn of(image: &RgbImage) -> Self {
        let mut grey = true;
        let (mut low, mut high) = ([255; 3], [0; 3]);
        let mut sums = [0_u64; 3];
        let mut brightness = Vec::with_capacity(image.width() as usize * image.height() as usize);
        for pixel in image.pixels() {
            let [red, green, blue] = pixel.0;
            for (channel, value) in pixel.0.into_iter().enumerate() {
                low[channel] = value.min(low[channel]);
                high[channel] = value.max(high[channel]);
                sums[channel] += u64::from(value);
            }
            grey &= red.max(green).max(blue) - red.min(green).min(blue) <= GREY;
            // The weights of ITU-R BT.601 in 256ths.
            brightness.push(((77 * u32::from(red) + 150 * u32::from(green) + 29 * u32::from(blue)) >> 8) as u8);
        }
        let size = [image.width(), image.height()].map(|side| side as usize);
        let mean = sums.map(|sum| sum as f32 / brightness.len().max(1) as f32);
        let cells = means(&brightness, size, [SIDE; 2]);
        let cells = std::array::from_fn(|cell| (cells[cell] / 256) as u8);
        let single = low.iter().zip(&high).all(|(low, high)| high.saturating_sub(*low) <= SINGLE);
        Self { hash: hash(&means(&brightness, size, HASHED)), cells, means: mean, single, grey }
    }
}

/// The hash of rows of nine values: a bit for each value but the last of a row, which says whether the next is larger.
fn hash(values: &[u32]) -> u64 {
    let rows = values.chunks_exact(HASHED[0]);
    rows.flat_map(|row| row.windows(2)).fold(0, |bits, pair| bits << 1 | u64::from(pair[1] > pair[0]))
}

/// Means of the cells of an image of `[width, height]` bytes, in 256ths: `[rows * columns]`. A cell has at least one
/// pixel, so that cells of a very small image share pixels.
fn means(bytes: &[u8], [width, height]: [usize; 2], [columns, rows]: [usize; 2]) -> Vec<u32> {
    let span = |cell: usize, cells: usize, length: usize| {
        let start = cell * length / cells;
        start..((cell + 1) * length / cells).max(start + 1)
    };
    let mut means = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        let lines = span(row, rows, height);
        for column in 0..columns {
            let part = span(column, columns, width);
            let sum = |line: usize| -> u64 {
                bytes[line * width + part.start..line * width + part.end].iter().map(|v| u64::from(*v)).sum()
            };
            let sum: u64 = lines.clone().map(sum).sum();
            means.push((256 * sum / (lines.len() * part.len()) as u64) as u32);
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, imageops};

    #[test]
    fn cells_are_means_also_of_images_smaller_than_their_number() {
        // 4x2 pixels as 2x1 cells: the means of 0, 10, 40, 50 and of 20, 30, 60, 70.
        let bytes = [0, 10, 20, 30, 40, 50, 60, 70];
        assert_eq!(means(&bytes, [4, 2], [2, 1]), [25 * 256, 45 * 256]);
        assert_eq!(means(&[3], [1, 1], [3, 2]), [3 * 256; 6]);
    }

    #[test]
    fn the_hash_says_where_the_next_cell_is_brighter() {
        let rising: Vec<u32> = (0..72).map(|n| n % 9).collect();
        assert_eq!(hash(&rising), u64::MAX);
        let falling: Vec<u32> = rising.iter().map(|v| 9 - v).collect();
        assert_eq!(hash(&falling), 0);
        let mut one = falling;
        one[1] = 20;
        // Only the first value of the first row is darker than its neighbour.
        assert_eq!(hash(&one), 1 << 63);
    }

    #[test]
    fn colours_are_told_from_grey_and_from_a_single_colour() {
        let look = |pixel: fn(u32, u32) -> [u8; 3]| Look::of(&RgbImage::from_fn(20, 10, |x, y| Rgb(pixel(x, y))));
        let kind = |look: Look| [look.single, look.grey];
        assert_eq!(kind(look(|_, _| [90, 20, 10])), [true, false]);
        assert_eq!(kind(look(|x, _| [100 + (x % 3) as u8; 3])), [true, true]);
        assert_eq!(kind(look(|x, y| [(x * y) as u8; 3])), [false, true]);
        assert_eq!(kind(look(|x, y| [(x * y) as u8, 0, 0])), [false, false]);
    }

    #[test]
    fn resizing_changes_few_bits() {
        let image = RgbImage::from_fn(320, 200, |x, y| {
            let wave = |v: u32, period: f32| (v as f32 / period).sin() * 60.0 + 120.0;
            Rgb([wave(x, 31.0) as u8, wave(x + y, 23.0) as u8, wave(y, 17.0) as u8])
        });
        let small = imageops::thumbnail(&image, 160, 100);
        let [a, b] = [Look::of(&image), Look::of(&small)];
        assert!((a.hash ^ b.hash).count_ones() <= 2, "{:x} {:x}", a.hash, b.hash);
        assert!(a.cells.iter().zip(&b.cells).all(|(a, b)| a.abs_diff(*b) <= 2));
    }
}
