//! 3x3 convolutions with stride 1 and padding 1 by Winograd's minimal filtering F(4x4, 3x3), which needs 36
//! multiplications per tile instead of 144 (Lavin & Gray, arXiv 1509.09308). The gradient of the input is a convolution
//! of the same kind; the gradient of the weight is F(3x3, 4x4) on the same points.
mod forward;
mod gradient;
mod tiling;
mod transform;
mod weight;

pub(crate) use forward::{convolve, convolve_in_parts};
pub(crate) use gradient::weight_grad;
pub(crate) use weight::{Transformed, Weights};

use super::maps::Maps;
use crate::cpu::matmul::ROWS;

/// Number of channels below which the transforms cost more time than they save.
const MIN_CHANNELS: usize = 16;
/// Number of tiles below which the transforms of the weights cost more time than the products save.
const MIN_TILES: usize = 24;

/// Largest number of pairs of an output and an input channel whose weights are transformed at a time, which bounds the
/// memory of the transformed weights to 13 MB.
const PAIRS: usize = 360 * 256;

/// Number of output channels that are computed at a time, a multiple of [`ROWS`] if they are not all.
fn part(outputs: usize, inputs: usize) -> usize {
    let parts = (outputs * inputs).div_ceil(PAIRS).max(1);
    if parts == 1 { outputs.max(1) } else { outputs.div_ceil(parts).next_multiple_of(ROWS) }
}

/// Whether minimal filtering is faster than the direct convolution.
pub(crate) fn pays(inputs: usize, outputs: usize, maps: &Maps) -> bool {
    inputs.min(outputs) >= MIN_CHANNELS && tiling::count(maps) >= MIN_TILES
}

/// Whether minimal filtering is faster for several maps in one tensor than a direct convolution of each map, which the
/// maps must be cut out of the tensor for. For few output channels, such as those of a box head, that costs more than
/// the transforms.
pub(crate) fn pays_joined(inputs: usize, maps: &Maps) -> bool {
    inputs >= MIN_CHANNELS && tiling::count(maps) >= MIN_TILES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::matmul::Finish;
    use crate::cpu::matmul::isa;
    use crate::cpu::scratch::Scratch;
    use crate::ops::conv::MapSize;

    /// Limit of the largest error relative to the largest value, against sums in `f64`. Measured: 8e-6 with 300
    /// channels.
    const TOLERANCE: f64 = 2e-5;

    fn values(seed: u64, len: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// Calls `f(output index, input index, weight index)` for every product of the convolution.
    fn each_product(maps: &Maps, inputs: usize, outputs: usize, mut f: impl FnMut(usize, usize, usize)) {
        for image in 0..maps.batch {
            for (output, input) in (0..outputs * inputs).map(|i| (i / inputs, i % inputs)) {
                for level in &maps.levels {
                    let [y, x] = [(outputs, output), (inputs, input)]
                        .map(|(channels, c)| (image * channels + c) * maps.pixels + level.offset);
                    for (row, column) in (0..level.height * level.width).map(|i| (i / level.width, i % level.width)) {
                        for tap in 0..9 {
                            let (r, c) = ((row + tap / 3).wrapping_sub(1), (column + tap % 3).wrapping_sub(1));
                            if r < level.height && c < level.width {
                                let (to, from) = (y + row * level.width + column, x + r * level.width + c);
                                f(to, from, (output * inputs + input) * 9 + tap);
                            }
                        }
                    }
                }
            }
        }
    }

    fn error(got: &[f32], exact: &[f64]) -> f64 {
        let largest = exact.iter().fold(0f64, |m, v| m.max(v.abs()));
        got.iter().zip(exact).fold(0f64, |m, (g, e)| m.max((f64::from(*g) - e).abs())) / largest
    }

    #[test]
    fn errors_stay_far_below_what_layers_may_differ() {
        /// Batch, channels in and out, sizes of maps.
        type Case = (usize, [usize; 2], &'static [[usize; 2]]);
        let cases: [Case; 7] = [
            (1, [3, 5], &[[4, 4]]),
            (2, [17, 19], &[[13, 9], [5, 6], [3, 3], [1, 2]]),
            (1, [300, 7], &[[20, 21], [1, 1]]),
            (3, [1, 1], &[[1, 1]]),
            // More channels than are computed at a time, and weights that are written past the caches.
            (1, [310, 305], &[[5, 4]]),
            // Two runs of tiles in the gradient of the weight.
            (1, [3, 5], &[[97, 65]]),
            (1, [3, 100], &[[56, 56]]),
        ];
        for (batch, [inputs, outputs], sizes) in cases {
            let sizes: Vec<MapSize> = sizes.iter().map(|&[height, width]| MapSize { height, width }).collect();
            let maps = Maps::new(batch, &sizes);
            let x = values(1, batch * inputs * maps.pixels);
            let w = values(2, outputs * inputs * 9);
            let dy = values(3, batch * outputs * maps.pixels);
            let scale = values(4, outputs);
            let (mut y, mut dx, mut dw) = (vec![0f64; dy.len()], vec![0f64; x.len()], vec![0f64; w.len()]);
            each_product(&maps, inputs, outputs, |to, from, tap| {
                let [x, w, dy, scale] = [x[from], w[tap], dy[to], scale[tap / 9 / inputs]].map(f64::from);
                y[to] += x * w;
                dx[from] += dy * w * scale;
                dw[tap] += x * dy * scale;
            });
            let weights = Weights::new(&w, [outputs, inputs]);
            let transposed = Weights::transposed(&w, [outputs, inputs], Some(&scale));
            for isa in isa::all() {
                let _isa = isa::hold(isa);
                let got = convolve(&x, &Transformed::new(weights, Scratch::of), Finish::default(), &maps);
                let in_parts = convolve_in_parts(&x, weights, Finish::default(), &maps);
                assert!(got == in_parts, "{isa:?}, {inputs} to {outputs} on {sizes:?}: another result in parts");
                let dx_in_parts = convolve_in_parts(&dy, transposed, Finish::default(), &maps);
                let dw_got = weight_grad(&x, &dy, Some(&scale), [inputs, outputs], &maps);
                let errors = [error(&got, &y), error(&dx_in_parts, &dx), error(&dw_got, &dw)];
                assert!(
                    errors.iter().all(|e| *e < TOLERANCE),
                    "{isa:?}, {inputs} to {outputs} on {sizes:?}: {errors:?}"
                );
            }
        }
    }
}
