//! Threaded loops over maps with the channels last in memory: `[pixels, channels]`, with the pixels of all images. They
//! are cut into tasks by shape alone, so that results never depend on the number of threads.
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::CpuTensor;
use super::parallel::GRAIN;
use super::vectorised::{Kernel, LANES, vectorised};

/// Number of values that are updated at once: they fit into the first-level cache twice.
const PIECE: usize = 4096;
/// Number of pixels whose values are summed in `f32` before the partial sums are added to an `f64`.
const RUN: usize = 64;
/// Number of tasks beyond which a sum over pixels is not cut. Each task has sums of its own for all channels.
const TASKS: usize = 64;

/// The shape of a map with the channels last, whose pixels form parts. Values for each channel can differ between parts.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    channels: usize,
    /// Number of pixels of each part, in the order in which they are stored.
    pixels: Vec<usize>,
}

impl Parts {
    /// Parts of the given numbers of pixels.
    pub(crate) fn new(channels: usize, pixels: Vec<usize>) -> Self {
        Self { channels, pixels }
    }

    /// All pixels of a tensor `[batch, channels, ...]` in one part.
    pub(crate) fn whole<T: CpuTensor>(x: &T) -> Self {
        let shape = x.shape();
        let channels = shape[1];
        Self::new(channels, vec![shape.num_elements() / channels.max(1)])
    }

    /// Number of channels.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// Number of pixels of each part.
    pub(crate) fn pixels(&self) -> &[usize] {
        &self.pixels
    }

    /// Number of values.
    fn len(&self) -> usize {
        self.channels * self.pixels.iter().sum::<usize>()
    }

    /// The values of part `part` in `table`, which holds one value for each channel, or one for each part and channel.
    fn row<'a>(&self, table: &'a [f32], part: usize) -> &'a [f32] {
        let first = if table.len() == self.channels { 0 } else { part * self.channels };
        &table[first..][..self.channels]
    }

    /// Cuts the pixels into pieces of `most` pixels or fewer, each with the index of its part.
    fn cut(&self, most: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let mut end = 0;
        self.pixels.iter().enumerate().flat_map(move |(part, pixels)| {
            let first = end;
            end += pixels;
            (first..end).step_by(most).map(move |start| (part, start..(start + most).min(first + pixels)))
        })
    }
}

/// Replaces every value `v` of `x` by `f(v, o, p)`, where `o` are the values of `others` at the same pixel and channel, and
/// `p` those of the tables `params`, which hold one value for each channel, or one for each part and channel. Returns a
/// tensor with the channels last in memory; it is computed in place if no other tensor shares the buffer of `x`.
///
/// # Shapes
/// `x` `[batch, channels, ...]`; `others` hold the values of such tensors with the channels last.
pub(crate) fn map_pixels<T: CpuTensor, F, const M: usize, const P: usize>(
    x: T,
    others: [&[f32]; M],
    parts: &Parts,
    params: [&[f32]; P],
    f: F,
) -> T
where
    F: Fn(f32, [f32; M], [f32; P]) -> f32 + Sync,
{
    let mut x = x.into_nhwc();
    let (len, channels) = (x.f32s().len(), parts.channels);
    assert_eq!(len, parts.len());
    assert_eq!(others.map(<[f32]>::len), [len; M]);
    if len == 0 {
        return x.from_nhwc();
    }
    let update = |part: usize, pixels: &Range<usize>, values: &mut [f32]| {
        let others = others.map(|other| &other[pixels.start * channels..][..values.len()]);
        vectorised(Update { values, others, params: params.map(|table| parts.row(table, part)), f: &f });
    };
    let pieces = || parts.cut((PIECE / channels).max(1));
    if let Some(values) = x.f32s_mut() {
        split(values, channels, pieces()).into_par_iter().with_min_len(GRAIN / PIECE).for_each(
            |(part, pixels, values)| {
                update(part, &pixels, values);
            },
        );
        return x.from_nhwc();
    }
    let (shape, source) = (x.shape(), x.f32s());
    let mut out: Vec<f32> = Vec::with_capacity(len);
    let spare: &mut [MaybeUninit<f32>] = &mut out.spare_capacity_mut()[..len];
    split(spare, channels, pieces()).into_par_iter().with_min_len(GRAIN / PIECE).for_each(|(part, pixels, to)| {
        let from = &source[pixels.start * channels..][..to.len()];
        update(part, &pixels, to.write_copy_of_slice(from));
    });
    // SAFETY: the capacity was reserved, and the pieces, all of which were written, cover all elements.
    unsafe { out.set_len(len) };
    T::from_shape(out, shape).from_nhwc()
}

/// Replaces every value `v` of `x` by `f(v, o)`, where `o` are the values of `others` at the same place. See
/// [`map_pixels`].
pub(crate) fn map_values<T: CpuTensor, const M: usize>(
    x: T,
    others: [&[f32]; M],
    f: impl Fn(f32, [f32; M]) -> f32 + Sync,
) -> T {
    let parts = Parts::whole(&x);
    map_pixels(x, others, &parts, [], |value, others, []| f(value, others))
}

/// Cuts a buffer into the values of the pieces, which must be consecutive and begin with the first pixel.
fn split<E>(
    mut values: &mut [E],
    channels: usize,
    pieces: impl Iterator<Item = (usize, Range<usize>)>,
) -> Vec<(usize, Range<usize>, &mut [E])> {
    pieces
        .map(|(part, pixels)| {
            let (piece, rest) = std::mem::take(&mut values).split_at_mut(pixels.len() * channels);
            values = rest;
            (part, pixels, piece)
        })
        .collect()
}

/// The loop of [`map_pixels`] over the pixels of a piece.
struct Update<'a, F, const M: usize, const P: usize> {
    values: &'a mut [f32],
    others: [&'a [f32]; M],
    params: [&'a [f32]; P],
    f: &'a F,
}

impl<F, const M: usize, const P: usize> Kernel for Update<'_, F, M, P>
where
    F: Fn(f32, [f32; M], [f32; P]) -> f32,
{
    #[inline(always)]
    fn run(self) {
        // Without values for each channel, all pixels are treated as one.
        let channels = self.params.first().map_or(self.values.len(), |table| table.len());
        let whole = channels - channels % LANES;
        for (pixel, row) in self.values.chunks_exact_mut(channels).enumerate() {
            let others = self.others.map(|other| &other[pixel * channels..][..channels]);
            for first in (0..whole).step_by(LANES) {
                update::<_, M, P, LANES>(row, others, self.params, first, self.f);
            }
            for first in whole..channels {
                update::<_, M, P, 1>(row, others, self.params, first, self.f);
            }
        }
    }
}

/// Updates `W` channels of a pixel from channel `first` on.
#[inline(always)]
fn update<F, const M: usize, const P: usize, const W: usize>(
    row: &mut [f32],
    others: [&[f32]; M],
    params: [&[f32]; P],
    first: usize,
    f: &F,
) where
    F: Fn(f32, [f32; M], [f32; P]) -> f32,
{
    let mut values = [0f32; W];
    values.copy_from_slice(&row[first..][..W]);
    let (others, params) = (others.map(|o| &o[first..][..W]), params.map(|p| &p[first..][..W]));
    for (lane, value) in values.iter_mut().enumerate() {
        *value = f(*value, others.map(|o| o[lane]), params.map(|p| p[lane]));
    }
    row[first..][..W].copy_from_slice(&values);
}

/// For each part and channel, the sums of the `N` values `f(m, p)` over the pixels of the part, `[parts, channels]` each,
/// with nearly the accuracy of `f64`. `m` are the values of `maps` at a pixel and channel, and `p` those of the tables
/// `params`, which hold one value for each channel, or one for each part and channel.
///
/// # Shapes
/// `maps` hold the values of tensors `[batch, channels, ...]` with the channels last.
pub(crate) fn channel_sums<F, const M: usize, const P: usize, const N: usize>(
    maps: [&[f32]; M],
    parts: &Parts,
    params: [&[f32]; P],
    f: F,
) -> [Vec<f64>; N]
where
    F: Fn([f32; M], [f32; P]) -> [f32; N] + Sync,
{
    let channels = parts.channels;
    assert_eq!(maps.map(<[f32]>::len), [parts.len(); M]);
    let tasks = tasks(parts);
    let sums: Vec<[Vec<f64>; N]> = tasks
        .par_iter()
        .map(|task| {
            let mut sums = [(); N].map(|()| vec![0f64; task.channels.len()]);
            let rows = params.map(|table| &parts.row(table, task.part)[task.channels.clone()]);
            vectorised(Sum { maps, channels, task, params: rows, f: &f, sums: &mut sums });
            sums
        })
        .collect();
    let mut total = [(); N].map(|()| vec![0f64; parts.pixels.len() * channels]);
    for (task, sums) in tasks.iter().zip(&sums) {
        let at = task.part * channels + task.channels.start;
        for (total, sums) in total.iter_mut().zip(sums) {
            total[at..][..sums.len()].iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
    }
    total
}

/// A tensor of rank 1, rounded to `f32`.
pub(crate) fn vector<T: CpuTensor>(values: &[f64]) -> T {
    T::from_f32s(values.iter().map(|value| *value as f32).collect(), [values.len()])
}

/// The pixels and channels that a task sums.
#[derive(Debug)]
struct SumTask {
    part: usize,
    pixels: Range<usize>,
    channels: Range<usize>,
}

/// Cuts the map into tasks of about [`GRAIN`] values or more. Where there are few pixels, the channels are cut as well.
fn tasks(parts: &Parts) -> Vec<SumTask> {
    let (channels, len) = (parts.channels, parts.len());
    if len == 0 {
        return Vec::new();
    }
    let pixels = len / channels;
    let most = GRAIN.div_ceil(channels).max(pixels.div_ceil(TASKS)).next_multiple_of(RUN);
    let pieces: Vec<_> = parts.cut(most).collect();
    let strips = (len / GRAIN / pieces.len()).clamp(1, channels.div_ceil(4 * LANES));
    let strip = channels.div_ceil(strips).next_multiple_of(LANES);
    pieces
        .into_iter()
        .flat_map(|(part, pixels)| {
            (0..channels).step_by(strip).map(move |first| SumTask {
                part,
                pixels: pixels.clone(),
                channels: first..(first + strip).min(channels),
            })
        })
        .collect()
}

/// The loop of [`channel_sums`] over the pixels and channels of a task.
struct Sum<'a, F, const M: usize, const P: usize, const N: usize> {
    maps: [&'a [f32]; M],
    channels: usize,
    task: &'a SumTask,
    /// The values of the task's channels.
    params: [&'a [f32]; P],
    f: &'a F,
    /// The sums of the task's channels, which are increased.
    sums: &'a mut [Vec<f64>; N],
}

impl<F, const M: usize, const P: usize, const N: usize> Kernel for Sum<'_, F, M, P, N>
where
    F: Fn([f32; M], [f32; P]) -> [f32; N],
{
    #[inline(always)]
    fn run(mut self) {
        let width = self.task.channels.len();
        let whole = width - width % LANES;
        for start in self.task.pixels.clone().step_by(RUN) {
            let pixels = start..(start + RUN).min(self.task.pixels.end);
            for first in (0..whole).step_by(LANES) {
                self.add::<LANES>(pixels.clone(), first);
            }
            for first in whole..width {
                self.add::<1>(pixels.clone(), first);
            }
        }
    }
}

impl<F, const M: usize, const P: usize, const N: usize> Sum<'_, F, M, P, N>
where
    F: Fn([f32; M], [f32; P]) -> [f32; N],
{
    /// Adds the values of `W` channels of the task, from its channel `first` on, over a run of pixels.
    #[inline(always)]
    fn add<const W: usize>(&mut self, pixels: Range<usize>, first: usize) {
        let params = self.params.map(|table| {
            let mut values = [0f32; W];
            values.copy_from_slice(&table[first..][..W]);
            values
        });
        let mut run = [[0f32; W]; N];
        for pixel in pixels {
            let at = pixel * self.channels + self.task.channels.start + first;
            let values = self.maps.map(|map| &map[at..][..W]);
            for lane in 0..W {
                let terms = (self.f)(values.map(|map| map[lane]), params.map(|table| table[lane]));
                for (run, term) in run.iter_mut().zip(terms) {
                    run[lane] += term;
                }
            }
        }
        for (sums, run) in self.sums.iter_mut().zip(run) {
            for (sum, value) in sums[first..][..W].iter_mut().zip(run) {
                *sum += f64::from(value);
            }
        }
    }
}
