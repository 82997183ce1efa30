//! Bilinear interpolation without antialiasing, as `torch.nn.functional.interpolate(mode="bilinear",
//! align_corners=False)`.

/// The two samples and their weights for one output coordinate.
#[derive(Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    weight_low: f32,
    weight_high: f32,
}

/// Sampling positions of one axis. They are computed in f32 and in PyTorch's order of operations
/// (`area_pixel_compute_source_index` and `guard_index_and_lambda` of ATen's UpSample.h): at 1000 pixels one unit in
/// the last place of the position is already 6e-5 of a pixel.
fn taps(input: usize, output: usize) -> Vec<Tap> {
    if input == output {
        return (0..input).map(|i| Tap { low: i, high: i, weight_low: 1.0, weight_high: 0.0 }).collect();
    }
    let ratio = input as f32 / output as f32;
    let tap = |i: usize| {
        let position = (ratio * (i as f32 + 0.5) - 0.5).max(0.0);
        let low = (position.floor() as usize).min(input - 1);
        let weight_high = (position - low as f32).clamp(0.0, 1.0);
        Tap { low, high: (low + 1).min(input - 1), weight_low: 1.0 - weight_high, weight_high }
    };
    (0..output).map(tap).collect()
}

/// Resizes planes `[channels, height, width]` to `[channels, to_height, to_width]`.
///
/// # Panics
/// If the length of `data` is not `channels * height * width`, or a side is 0.
pub(crate) fn resize(
    data: &[f32],
    channels: usize,
    (height, width): (usize, usize),
    (to_height, to_width): (usize, usize),
) -> Vec<f32> {
    assert_eq!(data.len(), channels * height * width, "expected planes of {channels}x{height}x{width} values");
    assert!(height > 0 && width > 0 && to_height > 0 && to_width > 0, "cannot resize from or to a side of 0 pixels");
    let (rows, columns) = (taps(height, to_height), taps(width, to_width));
    let mut out = Vec::with_capacity(channels * to_height * to_width);
    for plane in data.chunks_exact(height * width) {
        for row in &rows {
            let upper = &plane[row.low * width..][..width];
            let lower = &plane[row.high * width..][..width];
            out.extend(columns.iter().map(|c| {
                let top = upper[c.low] * c.weight_low + upper[c.high] * c.weight_high;
                let bottom = lower[c.low] * c.weight_low + lower[c.high] * c.weight_high;
                top * row.weight_low + bottom * row.weight_high
            }));
        }
    }
    out
}
