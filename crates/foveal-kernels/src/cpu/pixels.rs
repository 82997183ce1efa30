//! Threaded passes over the pixels of row-major tensors with the channels last. They are cut into tasks by shape alone, so
//! that results never depend on the number of threads.
use std::ops::Range;

use rayon::prelude::*;

use super::CpuTensor;
use super::parallel::GRAIN;

/// Number of pixels that are summed in `f32` before the partial sums are added to `f64` ones.
const RUN: usize = 64;
/// Number of parts into which the pixels of a sum are divided at most.
const PARTS: usize = 32;

/// The length of the last axis: the channels.
pub(crate) fn channels_of<T: CpuTensor>(x: &T) -> usize {
    let shape = x.shape();
    shape[shape.num_dims() - 1]
}

/// Applies `f(first, pixels)` to runs of whole pixels of `x`, where `first` is the index of the run's first element.
/// Works in place if no other tensor shares the buffer, else on a copy.
pub(crate) fn map_pixels<T: CpuTensor>(mut x: T, f: impl Fn(usize, &mut [f32]) + Sync) -> T {
    let (channels, len) = (channels_of(&x), x.f32s().len());
    if len == 0 {
        return x;
    }
    let step = GRAIN.div_ceil(channels) * channels;
    if let Some(values) = x.f32s_mut() {
        values.par_chunks_mut(step).enumerate().for_each(|(i, values)| f(i * step, values));
        return x;
    }
    let (shape, source) = (x.shape(), x.f32s());
    let mut out: Vec<f32> = Vec::with_capacity(len);
    out.spare_capacity_mut()[..len]
        .par_chunks_mut(step)
        .zip(source.par_chunks(step))
        .enumerate()
        .for_each(|(i, (to, from))| f(i * step, to.write_copy_of_slice(from)));
    // SAFETY: the capacity was reserved, and every chunk was written.
    unsafe { out.set_len(len) };
    T::from_shape(out, shape)
}

/// For each of `K` quantities and each channel, the sum over the pixels `range`. `add(pixels, sums)` adds the values of a
/// short run of pixels to `sums`.
pub(crate) fn channel_sums<const K: usize>(
    range: Range<usize>,
    channels: usize,
    add: impl Fn(Range<usize>, &mut [Vec<f32>; K]) + Sync,
) -> [Vec<f64>; K] {
    let step = part_pixels(range.len(), channels);
    let parts: Vec<[Vec<f64>; K]> = (0..range.len().div_ceil(step))
        .into_par_iter()
        .map(|part| {
            let first = range.start + part * step;
            let mut sums = ChannelSums::new(channels);
            for run in (first..(first + step).min(range.end)).step_by(RUN) {
                sums.add(|to| add(run..(run + RUN).min(first + step).min(range.end), to));
            }
            sums.total
        })
        .collect();
    let total = |k: usize, c: usize| parts.iter().map(|part| part[k][c]).sum();
    std::array::from_fn(|k| (0..channels).map(|c| total(k, c)).collect())
}

/// Number of pixels of a part of a sum over `pixels` pixels.
fn part_pixels(pixels: usize, channels: usize) -> usize {
    pixels.div_ceil(PARTS).max(GRAIN.div_ceil(channels.max(1))).next_multiple_of(RUN)
}

/// Sums of each channel in `f64`, to which runs of pixels are added that were summed in `f32`.
struct ChannelSums<const K: usize> {
    run: [Vec<f32>; K],
    total: [Vec<f64>; K],
}

impl<const K: usize> ChannelSums<K> {
    fn new(channels: usize) -> Self {
        Self { run: std::array::from_fn(|_| vec![0.0; channels]), total: std::array::from_fn(|_| vec![0.0; channels]) }
    }

    fn add(&mut self, run: impl FnOnce(&mut [Vec<f32>; K])) {
        self.run.iter_mut().for_each(|sums| sums.fill(0.0));
        run(&mut self.run);
        for (total, run) in self.total.iter_mut().zip(&self.run) {
            total.iter_mut().zip(run).for_each(|(total, run)| *total += f64::from(*run));
        }
    }
}

/// The sum of each channel over all pixels of `values`.
pub(crate) fn channel_totals(values: &[f32], channels: usize) -> Vec<f32> {
    let [sums] = channel_sums(0..values.len() / channels.max(1), channels, |pixels, [sums]| {
        for pixel in values[pixels.start * channels..pixels.end * channels].chunks_exact(channels) {
            sums.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += v);
        }
    });
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// Result of [`gated`].
pub(crate) struct Gated<T> {
    /// The gradient, 0 where the activation let nothing pass.
    pub(crate) grad: T,
    /// For each channel, the sum of the gradient over all pixels, if it was asked for.
    pub(crate) sums: Option<Vec<f32>>,
}

/// Sets the gradient to 0 where the output `y` of a ReLU is not positive, and sums it over all pixels if `sums` is set,
/// in one pass over memory. Without `y` there is no ReLU. Works in place if no other tensor shares the gradient's buffer,
/// else on a copy.
pub(crate) fn gated<T: CpuTensor>(mut grad: T, y: Option<&T>, sums: bool) -> Gated<T> {
    let (channels, len) = (channels_of(&grad), grad.f32s().len());
    let Some(y) = y.map(T::f32s) else {
        let sums = sums.then(|| channel_totals(grad.f32s(), channels));
        return Gated { grad, sums };
    };
    if len == 0 {
        return Gated { grad, sums: sums.then(|| vec![0.0; channels]) };
    }
    if !sums {
        let grad = map_pixels(grad, |at, grad| gate(grad, &y[at..]));
        return Gated { grad, sums: None };
    }
    if grad.f32s_mut().is_none() {
        grad = T::from_shape(grad.f32s().to_vec(), grad.shape());
    }
    let step = part_pixels(len / channels, channels) * channels;
    let values = grad.f32s_mut().expect("nobody else holds the buffer");
    let parts: Vec<Vec<f64>> = values
        .par_chunks_mut(step)
        .zip(y.par_chunks(step))
        .map(|(grad, y)| {
            let mut sums = ChannelSums::<1>::new(channels);
            for (grad, y) in grad.chunks_mut(RUN * channels).zip(y.chunks(RUN * channels)) {
                gate(grad, y);
                sums.add(|[to]| {
                    for pixel in grad.chunks_exact(channels) {
                        to.iter_mut().zip(pixel).for_each(|(sum, g)| *sum += g);
                    }
                });
            }
            let [total] = sums.total;
            total
        })
        .collect();
    let total = |c: usize| parts.iter().map(|part| part[c]).sum::<f64>() as f32;
    let sums = (0..channels).map(total).collect();
    Gated { grad, sums: Some(sums) }
}

fn gate(grad: &mut [f32], y: &[f32]) {
    grad.iter_mut().zip(y).for_each(|(g, y)| *g = if *y > 0.0 { *g } else { 0.0 });
}
