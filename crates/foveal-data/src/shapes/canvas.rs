//! An image that is being drawn.

use foveal_image::RgbImage;
use image::Rgb;

/// An image that is being drawn. Pixels are RGB in levels of 0 to 255, not yet rounded.
pub(super) struct Canvas {
    /// Width in pixels.
    pub(super) width: usize,
    /// Height in pixels.
    pub(super) height: usize,
    pixels: Vec<[f32; 3]>,
}

impl Canvas {
    /// Creates a black canvas of the given size in pixels.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![[0.0; 3]; width * height] }
    }

    /// Returns the RGB levels of the pixel in column `x` and row `y`.
    pub(super) fn pixel(&mut self, x: usize, y: usize) -> &mut [f32; 3] {
        &mut self.pixels[y * self.width + x]
    }

    /// Returns the image, with levels rounded to integers and limited to 0 to 255.
    pub(super) fn into_image(self) -> RgbImage {
        let (width, height) = (self.width, self.height);
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            Rgb(self.pixels[y as usize * width + x as usize].map(|v| v.round().clamp(0.0, 255.0) as u8))
        })
    }
}
