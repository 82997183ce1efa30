//! The group norm on the CPU: a task takes a group of channels of an image, whose values stay in the cache between the
//! statistics and the normalisation, and in the backward pass between the sums and the gradient.
use super::GroupNorm;
use crate::cpu::CpuTensor;
use crate::cpu::compiled::{Work, compiled};
use crate::cpu::parallel::{map_planes_aside, sum, sum_by};
use crate::cpu::statistics::{Statistics, gated_sums};
use crate::ops::elementwise::{Activation, relu};

/// Scale and shift of each channel.
#[derive(Clone, Copy)]
struct Affine<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
}

/// The result, and the statistics of every group of every image and map, in the order `[batch, groups, maps]`.
pub(super) fn forward<T: CpuTensor>(x: T, weight: &T, bias: &T, config: &GroupNorm) -> (T, Vec<Statistics>) {
    let maps = config.maps.levels.len();
    let mut statistics = vec![Statistics::default(); config.maps.batch * config.groups * maps];
    let mut of_groups: Vec<_> = statistics.chunks_mut(maps.max(1)).collect();
    let affine = Affine { weight: weight.f32s(), bias: bias.f32s() };
    let y = map_planes_aside(x, config.group_len(), &mut of_groups, |group, values, statistics| {
        compiled(Normalise { config, affine, group, values, statistics });
    });
    (y, statistics)
}

/// Normalises the values of a group, applies scale, shift and activation, and writes the statistics of each map.
struct Normalise<'a> {
    config: &'a GroupNorm,
    affine: Affine<'a>,
    /// `image * groups + group of channels`.
    group: usize,
    values: &'a mut [f32],
    statistics: &'a mut [Statistics],
}

impl Work for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { config, affine, group, values, statistics } = self;
        let pixels = config.maps.pixels;
        for (part, to) in config.parts().zip(statistics.iter_mut()) {
            let planes = || values.chunks_exact(pixels).map(|plane| &plane[part.clone()]);
            let count = (config.in_group() * part.len()).max(1) as f64;
            let mean = planes().map(sum).sum::<f64>() / count;
            let centre = mean as f32;
            let var = planes().map(|p| sum_by(p, |x| (x - centre) * (x - centre))).sum::<f64>() / count;
            *to = Statistics::new(centre, var, config.eps);
        }
        for (channel, values) in config.channels_of(group).zip(values.chunks_exact_mut(pixels)) {
            let (w, b) = (affine.weight[channel], affine.bias[channel]);
            for (part, s) in config.parts().zip(statistics.iter()) {
                match config.activation {
                    Activation::None => values[part].iter_mut().for_each(|v| *v = s.normal(*v) * w + b),
                    Activation::Relu => values[part].iter_mut().for_each(|v| *v = relu(s.normal(*v) * w + b)),
                }
            }
        }
    }
}

/// Gradients of input, weight and bias.
pub(super) struct Grads<T> {
    pub(super) x: T,
    pub(super) weight: T,
    pub(super) bias: T,
}

pub(super) fn backward<T: CpuTensor>(
    grad: T,
    x: &T,
    statistics: &[Statistics],
    weight: &T,
    bias: &T,
    config: &GroupNorm,
) -> Grads<T> {
    let (batch, channels, maps) = (config.maps.batch, config.channels, config.maps.levels.len());
    let (values, group_len) = (x.f32s(), config.group_len());
    let affine = Affine { weight: weight.f32s(), bias: bias.f32s() };
    // For each map of each channel of each image: the sum of g and the sum of g * normalised x.
    let mut sums = vec![[0f64; 2]; batch * channels * maps];
    let mut of_groups: Vec<_> = sums.chunks_mut((config.in_group() * maps).max(1)).collect();
    let dx = map_planes_aside(grad, group_len, &mut of_groups, |group, grad, sums| {
        let x = &values[group * group_len..][..group_len];
        let statistics = &statistics[group * maps..][..maps];
        compiled(Differentiate { config, affine, group, x, statistics, grad, sums });
    });
    let by_channel = |k: usize| -> Vec<f32> {
        let of = |c: usize| (0..batch).flat_map(move |i| (0..maps).map(move |l| (i * channels + c) * maps + l));
        (0..channels).map(|c| of(c).map(|at| sums[at][k]).sum::<f64>() as f32).collect()
    };
    let (weight_grad, bias_grad) = (by_channel(1), by_channel(0));
    Grads { x: dx, weight: T::from_f32s(weight_grad, [channels]), bias: T::from_f32s(bias_grad, [channels]) }
}

/// Turns the gradient of a group's result into the gradient of its input.
struct Differentiate<'a> {
    config: &'a GroupNorm,
    affine: Affine<'a>,
    /// `image * groups + group of channels`.
    group: usize,
    x: &'a [f32],
    /// Of each map.
    statistics: &'a [Statistics],
    grad: &'a mut [f32],
    /// Written for each map of each channel: the sum of the gradient before the activation, and the sum of its products
    /// with the normalised input.
    sums: &'a mut [[f64; 2]],
}

/// The gradient before a ReLU, where `normal` is the normalised input. The expression is exactly that of the forward
/// pass, so that the signs agree.
#[inline(always)]
fn gate(g: f32, normal: f32, w: f32, b: f32) -> f32 {
    if normal * w + b <= 0.0 { 0.0 } else { g }
}

impl Work for Differentiate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { config, affine, group, x, statistics, grad, sums } = self;
        let (pixels, maps, in_group) = (config.maps.pixels, config.maps.levels.len(), config.in_group());
        for (k, channel) in config.channels_of(group).enumerate() {
            let (w, b) = (affine.weight[channel], affine.bias[channel]);
            for (level, (part, s)) in config.parts().zip(statistics).enumerate() {
                let (g, x) = (&grad[k * pixels..][part.clone()], &x[k * pixels..][part]);
                sums[k * maps + level] = match config.activation {
                    Activation::None => gated_sums(g, x, |g, x| (g, s.normal(x))),
                    Activation::Relu => gated_sums(g, x, |g, x| (gate(g, s.normal(x), w, b), s.normal(x))),
                };
            }
        }
        // dx = scale * (w g - mean(w g) - normal * mean(w g normal)), with means over the group's map.
        for (level, (part, s)) in config.parts().zip(statistics).enumerate() {
            let n = (in_group * part.len()) as f64;
            let mean = |which: usize| {
                let sums = sums.iter().skip(level).step_by(maps).map(|sums| sums[which]);
                let weights = config.channels_of(group).map(|channel| f64::from(affine.weight[channel]));
                (sums.zip(weights).map(|(sum, w)| sum * w).sum::<f64>() / n) as f32
            };
            let [m0, m1] = [mean(0), mean(1)];
            for (k, channel) in config.channels_of(group).enumerate() {
                let (w, b) = (affine.weight[channel], affine.bias[channel]);
                let through = |g: f32, normal: f32| s.scale * (g * w - m0 - normal * m1);
                let pairs = grad[k * pixels..][part.clone()].iter_mut().zip(&x[k * pixels..][part.clone()]);
                match config.activation {
                    Activation::None => pairs.for_each(|(g, x)| *g = through(*g, s.normal(*x))),
                    Activation::Relu => pairs.for_each(|(g, x)| {
                        let normal = s.normal(*x);
                        *g = through(gate(*g, normal, w, b), normal);
                    }),
                }
            }
        }
    }
}
