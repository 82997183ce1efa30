//! Antialiased drawing of figures by supersampling.

use super::canvas::Canvas;
use super::figure::Figure;

/// Number of samples per pixel along each axis.
const SAMPLES: usize = 4;

/// Draws a figure. `shade` is the fraction by which its colour gets lighter (or darker, if negative) from the centre to
/// the lower edge, and the opposite to the upper edge.
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

/// The fraction of a pixel that the figure covers.
fn coverage(figure: &Figure, x: usize, y: usize) -> f32 {
    let offset = |i: usize| (i as f32 + 0.5) / SAMPLES as f32;
    let samples = (0..SAMPLES * SAMPLES).map(|i| (x as f32 + offset(i % SAMPLES), y as f32 + offset(i / SAMPLES)));
    samples.filter(|(x, y)| figure.outline.contains(*x, *y)).count() as f32 / (SAMPLES * SAMPLES) as f32
}
