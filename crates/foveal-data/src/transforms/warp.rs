//! Resamples an image under an affine map.

use foveal_image::RgbImage;
use image::Rgb;

/// An affine map of points `(x, y)` in pixels: `matrix * (x, y) + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AffineMap {
    /// The matrix, row by row.
    pub matrix: [f32; 4],
    /// What is added to the product.
    pub offset: [f32; 2],
}

impl AffineMap {
    /// The image of a point.
    pub(crate) fn apply(&self, x: f32, y: f32) -> [f32; 2] {
        let [a, b, c, d] = self.matrix;
        [a * x + b * y + self.offset[0], c * x + d * y + self.offset[1]]
    }

    /// The inverse map. The determinant of the matrix must not be 0.
    pub(crate) fn inverse(&self) -> Self {
        let [a, b, c, d] = self.matrix.map(f64::from);
        let [x, y] = self.offset.map(f64::from);
        let determinant = a * d - b * c;
        let [a, b, c, d] = [d, -b, -c, a].map(|v| v / determinant);
        Self { matrix: [a, b, c, d].map(|v| v as f32), offset: [-(a * x + b * y), -(c * x + d * y)].map(|v| v as f32) }
    }
}

/// Number of steps between two pixels in which positions are rounded.
const STEPS: f32 = 256.0;

/// Returns an image of the same size whose pixel at a point has the colour of `image` at the point that `back` maps it
/// to, by bilinear interpolation without antialiasing. The surroundings of `image` have the colour `fill`.
pub(crate) fn warp(image: &RgbImage, back: &AffineMap, fill: Rgb<u8>) -> RgbImage {
    let (width, height) = image.dimensions();
    let mut warped = RgbImage::from_pixel(width, height, fill);
    if width == 0 || height == 0 {
        return warped;
    }
    let source = Source { bytes: image.as_raw(), width: width as usize, height: height as usize, fill: fill.0 };
    for (y, row) in warped.chunks_exact_mut(width as usize * 3).enumerate() {
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            // Pixel centres are at half pixels.
            let [u, v] = back.apply(x as f32 + 0.5, y as f32 + 0.5);
            if let Some(colour) = source.at(u - 0.5, v - 0.5) {
                *pixel = colour;
            }
        }
    }
    warped
}

/// The image that is read.
struct Source<'a> {
    bytes: &'a [u8],
    width: usize,
    height: usize,
    fill: [u8; 3],
}

impl Source<'_> {
    /// The colour at a point in units of pixel centres; `None` if no pixel is within reach.
    fn at(&self, u: f32, v: f32) -> Option<[u8; 3]> {
        // A pixel of the surroundings is shared at each edge. All values are positive after 1 is added, so that they
        // can be truncated.
        if !(u > -1.0 && v > -1.0 && u < self.width as f32 && v < self.height as f32) {
            return None;
        }
        let (u, v) = (u + 1.0, v + 1.0);
        let (column, row) = (u as usize, v as usize);
        let right = ((u - column as f32) * STEPS) as u32;
        let below = ((v - row as f32) * STEPS) as u32;
        let corners = if (1..self.width).contains(&column) && (1..self.height).contains(&row) {
            let first = ((row - 1) * self.width + column - 1) * 3;
            let second = first + self.width * 3;
            let (above, below) = (&self.bytes[first..first + 6], &self.bytes[second..second + 6]);
            let pixel = |from: &[u8]| [from[0], from[1], from[2]];
            [pixel(above), pixel(&above[3..]), pixel(below), pixel(&below[3..])]
        } else {
            [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(x, y)| self.pixel(column + x, row + y))
        };
        let steps = STEPS as u32;
        let mean = |channel: usize| {
            let [a, b, c, d] = corners.map(|pixel| u32::from(pixel[channel]));
            let (above, under) = (a * (steps - right) + b * right, c * (steps - right) + d * right);
            ((above * (steps - below) + under * below + steps * steps / 2) / (steps * steps)) as u8
        };
        Some([mean(0), mean(1), mean(2)])
    }

    /// The pixel in a column and row that count from 1; outside the image it is `fill`.
    fn pixel(&self, column: usize, row: usize) -> [u8; 3] {
        if !(1..=self.width).contains(&column) || !(1..=self.height).contains(&row) {
            return self.fill;
        }
        let first = ((row - 1) * self.width + column - 1) * 3;
        [self.bytes[first], self.bytes[first + 1], self.bytes[first + 2]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> RgbImage {
        RgbImage::from_fn(7, 5, |x, y| Rgb([(x * 30) as u8, (y * 40) as u8, ((x * 7 + y * 3) % 11) as u8]))
    }

    #[test]
    fn the_identity_and_whole_steps_are_exact() {
        let fill = Rgb([9, 8, 7]);
        let shift = |x: f32, y: f32| AffineMap { matrix: [1.0, 0.0, 0.0, 1.0], offset: [x, y] };
        assert_eq!(warp(&image(), &shift(0.0, 0.0), fill), image());
        let moved = warp(&image(), &shift(2.0, -1.0), fill);
        for (x, y, pixel) in moved.enumerate_pixels() {
            let expected = if x + 2 < 7 && y >= 1 { *image().get_pixel(x + 2, y - 1) } else { fill };
            assert_eq!(*pixel, expected, "{x} {y}");
        }
    }

    #[test]
    fn half_a_step_is_the_mean_of_neighbours() {
        let half = AffineMap { matrix: [1.0, 0.0, 0.0, 1.0], offset: [0.5, 0.5] };
        let found = warp(&image(), &half, Rgb([0; 3]));
        // Red is 30 x, and green is 40 y.
        assert_eq!(found.get_pixel(2, 1).0[..2], [75, 60]);
        // At the right edge half of the colour is that of the surroundings.
        assert_eq!(found.get_pixel(6, 1).0[0], 90);
    }

    #[test]
    fn the_inverse_leads_back() {
        let map = AffineMap { matrix: [1.2, -0.3, 0.4, 0.8], offset: [5.0, -2.0] };
        let [x, y] = map.apply(3.0, 7.0);
        let [u, v] = map.inverse().apply(x, y);
        assert!((u - 3.0).abs() < 1e-4 && (v - 7.0).abs() < 1e-4, "{u} {v}");
    }
}
