//! Antialiased filling by supersampling.

use foveal_image::RgbImage;
use image::Rgb;

use super::scene::Figure;

/// Samples a pixel along each axis.
const SAMPLES: usize = 4;

/// An image being drawn, in levels of 0..255.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<[f32; 3]>,
}

impl Canvas {
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![[0.0; 3]; width * height] }
    }

    pub fn pixel(&mut self, x: usize, y: usize) -> &mut [f32; 3] {
        &mut self.pixels[y * self.width + x]
    }

    pub fn into_image(self) -> RgbImage {
        let (width, height) = (self.width, self.height);
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            Rgb(self.pixels[y as usize * width + x as usize].map(|v| v.round().clamp(0.0, 255.0) as u8))
        })
    }
}

/// Fills a figure; `shade` darkens or lightens it from its upper to its lower edge by up to that fraction.
pub(super) fn fill(canvas: &mut Canvas, figure: &Figure, shade: f32) {
    let bbox = &figure.bbox;
    let span = |low: f32, high: f32, end: usize| low.max(0.0) as usize..(high.ceil() as usize).min(end);
    for y in span(bbox.y1, bbox.y2, canvas.height) {
        let down = (y as f32 + 0.5 - bbox.center().1) / bbox.height().max(1.0);
        let color = figure.color.map(|v| v * (1.0 + 2.0 * shade * down));
        for x in span(bbox.x1, bbox.x2, canvas.width) {
            let cover = coverage(figure, x, y);
            if cover > 0.0 {
                let pixel = canvas.pixel(x, y);
                *pixel = std::array::from_fn(|c| pixel[c] + (color[c] - pixel[c]) * cover);
            }
        }
    }
}

/// The fraction of a pixel inside the figure.
fn coverage(figure: &Figure, x: usize, y: usize) -> f32 {
    let place = |i: usize| (i as f32 + 0.5) / SAMPLES as f32;
    let samples = (0..SAMPLES * SAMPLES).map(|i| (x as f32 + place(i % SAMPLES), y as f32 + place(i / SAMPLES)));
    samples.filter(|(x, y)| figure.outline.contains(*x, *y)).count() as f32 / (SAMPLES * SAMPLES) as f32
}
