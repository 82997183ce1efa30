//! Threaded loops over buffers. They are cut into tasks by shape alone, so that results never depend on the number of
//! threads.
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::CpuTensor;

/// Number of elements below which passing a task to another thread costs more time than it saves.
pub(crate) const GRAIN: usize = 16_384;

/// A pointer into a buffer to which several tasks write at disjoint places.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a> {
    data: *mut f32,
    len: usize,
    buffer: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only an address; every use of it states why its writes are disjoint.
unsafe impl Send for SharedMut<'_> {}
// SAFETY: the pointer is only an address; every use of it states why its writes are disjoint.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    /// A pointer into an initialised buffer.
    pub(crate) fn new(buffer: &'a mut [f32]) -> Self {
        Self { data: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
    }

    /// A pointer into an uninitialised buffer, which is initialised through the pointer.
    pub(crate) fn uninit(buffer: &'a mut [MaybeUninit<f32>]) -> Self {
        Self { data: buffer.as_mut_ptr().cast(), len: buffer.len(), buffer: PhantomData }
    }

    /// The address of element `offset`.
    ///
    /// # Safety
    /// `offset` must lie within the buffer.
    pub(crate) unsafe fn at(self, offset: usize) -> *mut f32 {
        debug_assert!(offset <= self.len, "element {offset} of a buffer of {}", self.len);
        // SAFETY: the caller's promise.
        unsafe { self.data.add(offset) }
    }
}

/// Applies `f` to every element of `x` and the corresponding element of `y`, a contiguous tensor with the same number
/// of elements. Works in place if no other tensor shares the buffer of `x`, else on a copy.
pub(crate) fn zip_flat<T: CpuTensor>(x: T, y: &T, f: impl Fn(&mut f32, f32) + Sync) -> T {
    let mut x = x.contiguous();
    let y = y.f32s();
    assert_eq!(x.f32s().len(), y.len());
    if x.f32s_mut().is_none() {
        let (shape, source) = (x.shape(), x.f32s());
        let mut out: Vec<f32> = Vec::with_capacity(source.len());
        out.spare_capacity_mut()[..source.len()]
            .par_chunks_mut(GRAIN)
            .zip(source.par_chunks(GRAIN).zip(y.par_chunks(GRAIN)))
            .for_each(|(to, (x, y))| {
                for (x, y) in to.write_copy_of_slice(x).iter_mut().zip(y) {
                    f(x, *y);
                }
            });
        // SAFETY: the capacity was reserved, and every chunk was written.
        unsafe { out.set_len(source.len()) };
        return T::from_shape(out, shape);
    }
    if let Some(values) = x.f32s_mut() {
        values.par_chunks_mut(GRAIN).zip(y.par_chunks(GRAIN)).for_each(|(x, y)| {
            x.iter_mut().zip(y).for_each(|(x, y)| f(x, *y));
        });
    }
    x
}

/// Applies `f(i, plane)` to every plane of `x [batch, channels, ...]`, of `piece` elements each. Works in place if
/// no other tensor shares its buffer, else on a copy.
pub(crate) fn map_planes<T: CpuTensor>(x: T, piece: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> T {
    let mut nothing = vec![(); x.shape().num_elements() / piece.max(1)];
    map_planes_aside(x, piece, &mut nothing, |i, plane, ()| f(i, plane))
}

/// Applies `f(i, plane, aside[i])` to every plane of `x`, as [`map_planes`] does. `aside` has an element for each
/// plane.
pub(crate) fn map_planes_aside<T: CpuTensor, A: Send>(
    x: T,
    piece: usize,
    aside: &mut [A],
    f: impl Fn(usize, &mut [f32], &mut A) + Sync,
) -> T {
    let mut x = x.contiguous();
    let len = x.f32s().len();
    if len == 0 {
        return x;
    }
    assert_eq!(len, aside.len() * piece, "planes of {piece} elements");
    let least = GRAIN.div_ceil(piece);
    if let Some(values) = x.f32s_mut() {
        let planes = values.par_chunks_mut(piece).zip(aside).with_min_len(least).enumerate();
        planes.for_each(|(i, (values, aside))| f(i, values, aside));
        return x;
    }
    let (shape, source) = (x.shape(), x.f32s());
    let mut out: Vec<f32> = Vec::with_capacity(len);
    let planes = out.spare_capacity_mut()[..len].par_chunks_mut(piece).zip(source.par_chunks(piece));
    planes.zip(aside).with_min_len(least).enumerate().for_each(|(i, ((to, from), aside))| {
        f(i, to.write_copy_of_slice(from), aside);
    });
    // SAFETY: the capacity was reserved, and every plane was written.
    unsafe { out.set_len(len) };
    T::from_shape(out, shape)
}

/// Number of elements that are summed in `f32` before the partial sum is added to an `f64`.
const RUN: usize = 4096;
/// Number of independent partial sums in a run: enough for any vector unit, and fixed so that results do not vary.
const LANES: usize = 16;

/// Sum of `values` with nearly the accuracy of `f64`.
#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f64 {
    sum_by(values, |v| v)
}

/// Sum of `f(value)` over `values` with nearly the accuracy of `f64`.
#[inline(always)]
pub(crate) fn sum_by(values: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    values
        .chunks(RUN)
        .map(|run| {
            let mut lanes = [0f32; LANES];
            let chunks = run.chunks_exact(LANES);
            let rest: f32 = chunks.remainder().iter().map(|v| f(*v)).sum();
            for chunk in chunks {
                for (lane, v) in lanes.iter_mut().zip(chunk) {
                    *lane += f(*v);
                }
            }
            f64::from(lanes.iter().sum::<f32>() + rest)
        })
        .sum()
}

/// Sum of the products of `a` and `b` with nearly the accuracy of `f64`.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.chunks(RUN)
        .zip(b.chunks(RUN))
        .map(|(a, b)| {
            let mut lanes = [0f32; LANES];
            let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
            let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
            for (a, b) in a.zip(b) {
                for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                    *lane += a * b;
                }
            }
            f64::from(lanes.iter().sum::<f32>() + rest)
        })
        .sum()
}

/// For each channel of a tensor `[batch, channels, plane]`, the sum of `f(plane index)` over the images, in order.
pub(crate) fn per_channel(batch: usize, channels: usize, plane: usize, f: impl Fn(usize) -> f64 + Sync) -> Vec<f32> {
    (0..channels)
        .into_par_iter()
        .with_min_len(GRAIN.div_ceil((batch * plane).max(1)))
        .map(|c| (0..batch).map(|i| f(i * channels + c)).sum::<f64>() as f32)
        .collect()
}
