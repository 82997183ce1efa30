//! Textured backgrounds: a gradient of dull colours with stripes and noise.

use std::f32::consts::TAU;

use super::canvas::Canvas;
use crate::{Stream, color};

/// Distance in pixels between the random values of the noise.
const CELL: f32 = 12.0;
/// Amplitudes of noise, stripes and grain at full texture, in levels of 0 to 255.
const NOISE: f32 = 50.0;
const STRIPES: f32 = 40.0;
const GRAIN: f32 = 16.0;

/// Draws a background. `texture` is its strength from 0 to 1.
pub(super) fn paint(width: usize, height: usize, texture: f32, random: &mut Stream) -> Canvas {
    // Dull colours, so that figures of every hue stand out.
    let mut dull = || color::rgb([random.uniform(), random.range(0.0, 0.3), random.range(40.0, 170.0)]);
    let (from, to) = (dull(), dull());
    let (sin, cos) = random.range(0.0, TAU).sin_cos();
    let stripes = if random.chance(0.4) { STRIPES * texture } else { 0.0 };
    let period = random.range(6.0, 30.0);
    let (stripe_sin, stripe_cos) = random.range(0.0, TAU).sin_cos();
    let noise = Noise::new(width, height, random);
    let mut canvas = Canvas::new(width, height);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f32 / width as f32 - 0.5, y as f32 / height as f32 - 0.5);
            let along = (0.5 + (u * cos + v * sin) * 0.7).clamp(0.0, 1.0);
            let wave = ((x as f32 * stripe_cos + y as f32 * stripe_sin) * TAU / period).sin();
            let grain = random.range(-1.0, 1.0) * GRAIN * texture;
            let change = stripes * wave + NOISE * texture * noise.at(x as f32, y as f32) + grain;
            *canvas.pixel(x, y) = std::array::from_fn(|c| from[c] + (to[c] - from[c]) * along + change);
        }
    }
    canvas
}

/// Value noise from -1 to 1: random values on a grid with bilinear interpolation.
struct Noise {
    columns: usize,
    values: Vec<f32>,
}

impl Noise {
    fn new(width: usize, height: usize, random: &mut Stream) -> Self {
        let count = |side: usize| (side as f32 / CELL) as usize + 2;
        let (columns, rows) = (count(width), count(height));
        Self { columns, values: (0..columns * rows).map(|_| random.range(-1.0, 1.0)).collect() }
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let (x, y) = (x / CELL, y / CELL);
        let (column, row) = (x as usize, y as usize);
        let (u, v) = (x.fract(), y.fract());
        let value = |dx, dy| self.values[(row + dy) * self.columns + column + dx];
        let upper = value(0, 0) * (1.0 - u) + value(1, 0) * u;
        let lower = value(0, 1) * (1.0 - u) + value(1, 1) * u;
        upper * (1.0 - v) + lower * v
    }
}
