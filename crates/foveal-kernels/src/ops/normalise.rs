//! The normalisation of groups of channels, which batch norm and group norm share.
//!
//! The pixels of a map form parts: all pixels of the batch, or the pixels of one image, or those of one of several maps
//! of an image. Each group of channels of each part is normalised by its mean and variance.
use crate::cpu::CpuTensor;
use crate::cpu::pixels::{Parts, channel_sums, map_pixels, vector};
use crate::ops::elementwise::{Activation, relu};

/// What is normalised together, and how.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    /// The parts of the map.
    pub(crate) parts: Parts,
    /// Number of channels of a group, which divides the number of channels.
    pub(crate) in_group: usize,
    /// Added to the variance.
    pub(crate) eps: f64,
    /// Applied to the result.
    pub(crate) activation: Activation,
}

/// Mean, variance and inverse standard deviation of the groups, `[parts, channels]` each: equal for all channels of a
/// group.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    pub(crate) mean: Vec<f32>,
    pub(crate) var: Vec<f64>,
    scale: Vec<f32>,
}

/// `x` normalised: minus the mean, divided by the standard deviation.
#[inline(always)]
fn normal(x: f32, mean: f32, scale: f32) -> f32 {
    (x - mean) * scale
}

impl Groups {
    /// Replaces the sums of each part and channel by their mean over the values of the group.
    fn means(&self, mut sums: Vec<f64>) -> Vec<f64> {
        let channels = self.parts.channels().max(1);
        for (sums, pixels) in sums.chunks_exact_mut(channels).zip(self.parts.pixels()) {
            for group in sums.chunks_exact_mut(self.in_group) {
                let mean = group.iter().sum::<f64>() / (self.in_group * pixels).max(1) as f64;
                group.fill(mean);
            }
        }
        sums
    }

    /// The statistics of the values `x` of a map with the channels last.
    pub(crate) fn statistics(&self, x: &[f32]) -> Statistics {
        let [sums] = channel_sums([x], &self.parts, [], |[x], []| [x]);
        let mean: Vec<f32> = self.means(sums).into_iter().map(|mean| mean as f32).collect();
        let [squares] = channel_sums([x], &self.parts, [&mean], |[x], [mean]| [(x - mean) * (x - mean)]);
        let var = self.means(squares);
        let scale = var.iter().map(|var| (1.0 / (var + self.eps).sqrt()) as f32).collect();
        Statistics { mean, var, scale }
    }

    /// The activation of `x` normalised, times `weight`, plus `bias`.
    ///
    /// # Shapes
    /// `x` and the result `[batch, channels, ...]`, `weight` and `bias` `[channels]`
    pub(crate) fn forward<T: CpuTensor>(&self, x: T, statistics: &Statistics, weight: &T, bias: &T) -> T {
        let Statistics { mean, scale, .. } = statistics;
        let params = [mean, scale, weight.f32s(), bias.f32s()];
        match self.activation {
            Activation::None => map_pixels(x, [], &self.parts, params, |v, [], [m, s, w, b]| normal(v, m, s) * w + b),
            Activation::Relu => {
                map_pixels(x, [], &self.parts, params, |v, [], [m, s, w, b]| relu(normal(v, m, s) * w + b))
            }
        }
    }

    /// The gradients of input, weight and bias. `x` are the values of the input with the channels last.
    pub(crate) fn backward<T: CpuTensor>(
        &self,
        grad: T,
        x: &[f32],
        statistics: &Statistics,
        weight: &T,
        bias: &T,
    ) -> [T; 3] {
        let weights = [weight.f32s(), bias.f32s()];
        match self.activation {
            Activation::None => self.gated(grad, x, statistics, weights, |g, _, _| g),
            // The expression is exactly that of `forward`, so that the signs agree.
            Activation::Relu => self.gated(grad, x, statistics, weights, |g, normal, [w, b]| {
                if normal * w + b <= 0.0 { 0.0 } else { g }
            }),
        }
    }

    /// [`backward`](Self::backward), where `gate(g, normal, [weight, bias])` is the gradient before the activation.
    fn gated<T: CpuTensor>(
        &self,
        grad: T,
        x: &[f32],
        statistics: &Statistics,
        weights: [&[f32]; 2],
        gate: impl Fn(f32, f32, [f32; 2]) -> f32 + Sync,
    ) -> [T; 3] {
        let (grad, parts, [weight, bias]) = (grad.into_nhwc(), &self.parts, weights);
        let Statistics { mean, scale, .. } = statistics;
        // For each part and channel: the sum of g and the sum of g * normalised x.
        let params = [mean, scale, weight, bias];
        let sums: [Vec<f64>; 2] = channel_sums([grad.f32s(), x], parts, params, |[g, x], [m, s, w, b]| {
            let normal = normal(x, m, s);
            let g = gate(g, normal, [w, b]);
            [g, g * normal]
        });
        let [of_bias, of_weight] = sums.each_ref().map(|sums| vector(&over_parts(sums, parts.channels())));
        // dx = scale * (w g - mean(w g) - normal * mean(w g normal)), with means over the group.
        let [mean_g, mean_gx] = sums.map(|sums| {
            let weighted = sums.iter().zip(weight.iter().cycle()).map(|(sum, weight)| sum * f64::from(*weight));
            self.means(weighted.collect()).into_iter().map(|mean| mean as f32).collect::<Vec<f32>>()
        });
        let params = [mean, scale, weight, bias, &mean_g, &mean_gx];
        let dx = map_pixels(grad.from_nhwc(), [x], parts, params, |g, [x], [m, s, w, b, m0, m1]| {
            let normal = normal(x, m, s);
            s * (gate(g, normal, [w, b]) * w - m0 - normal * m1)
        });
        [dx, of_weight, of_bias]
    }
}

/// For each channel, the sum over the parts, in order.
fn over_parts(sums: &[f64], channels: usize) -> Vec<f64> {
    let mut total = vec![0f64; channels];
    for part in sums.chunks_exact(channels.max(1)) {
        total.iter_mut().zip(part).for_each(|(total, sum)| *total += sum);
    }
    total
}
