//! The gradient of the input at any stride and padding, as matrix products: each input pixel gathers the gradients of the
//! output pixels that read it.
//!
//! The kernel taps that read an input pixel depend on its row and column modulo the stride only. Pixels with the same
//! remainders form a class; the products of a class have the same weights.
use rayon::prelude::*;

use super::direct::{Task, padded, tasks};
use super::geometry::Geometry;
use super::packed::{Packed, Weights};
use crate::cpu::matmul::{Finish, Left, Order, Size, Target, multiply};
use crate::cpu::parallel::SharedMut;
use crate::cpu::scratch::Scratch;

/// Computes the gradient of the input, `[batch, height, width, in_channels]`, from the weight and the output's gradient
/// `[batch, out_height, out_width, out_channels]`.
pub(super) fn input_grad(w: &[f32], dy: &[f32], g: &Geometry) -> Vec<f32> {
    assert_eq!(dy.len(), g.batch * g.out_channels * g.out_plane());
    assert_eq!(w.len(), g.out_channels * g.depth());
    let len = g.batch * g.in_channels * g.in_plane();
    if len == 0 || dy.is_empty() {
        return vec![0.0; len];
    }
    let classes: Vec<Class> =
        (0..g.stride * g.stride).map(|i| Class::new(w, g, [i / g.stride, i % g.stride])).collect();
    let mut dx: Vec<f32> = Vec::with_capacity(len);
    let to = SharedMut::uninit(&mut dx.spare_capacity_mut()[..len]);
    let work: Vec<(&Class, Task)> = classes
        .iter()
        .flat_map(|class| {
            let (pixels, depth) = (g.batch * class.rows.len() * class.columns.len(), class.weight.depth.max(1));
            let tasks = if pixels == 0 { Vec::new() } else { tasks(pixels, g.groups, depth, g.part_inputs()) };
            tasks.into_iter().map(move |task| (class, task))
        })
        .collect();
    work.into_par_iter().with_max_len(1).for_each(|(class, task)| {
        // SAFETY: no other task accesses these pixels of these channels.
        unsafe { class.run(&task, dy, g, to) };
    });
    // SAFETY: the classes cover all pixels, and their tasks initialised all channels of them.
    unsafe { dx.set_len(len) };
    dx
}

/// The input pixels whose rows and columns have the same remainders.
struct Class {
    /// The rows of the class.
    rows: Vec<usize>,
    /// The columns of the class.
    columns: Vec<usize>,
    /// The kernel rows and columns that read pixels of the class, in the order of the weight's taps.
    taps: Vec<[usize; 2]>,
    /// For each group, the weights `[taps * outputs, inputs]`.
    weight: Packed,
}

impl Class {
    /// The class of the kernel rows and columns whose remainders by the stride are `rest`.
    fn new(w: &[f32], g: &Geometry, rest: [usize; 2]) -> Self {
        let of = |size: usize, rest: usize| -> Vec<usize> {
            (0..size).filter(|i| (i + g.padding) % g.stride == rest).collect()
        };
        let kernel = |rest: usize| (rest..g.kernel).step_by(g.stride);
        let taps: Vec<[usize; 2]> = kernel(rest[0]).flat_map(|kh| kernel(rest[1]).map(move |kw| [kh, kw])).collect();
        let flat: Vec<usize> = taps.iter().map(|[kh, kw]| kh * g.kernel + kw).collect();
        let weight = Packed::new(Weights {
            values: w,
            groups: g.groups,
            taps: &flat,
            channels: g.part_outputs(),
            columns: g.part_inputs(),
            group_stride: g.part_outputs() * g.depth(),
            channel_stride: g.depth(),
            column_stride: g.taps(),
        });
        Self { rows: of(g.height, rest[0]), columns: of(g.width, rest[1]), taps, weight }
    }

    /// Computes a task's pixels.
    ///
    /// # Safety
    /// Nobody else may access the task's pixels of `dx` meanwhile.
    unsafe fn run(&self, task: &Task, dy: &[f32], g: &Geometry, dx: SharedMut<'_>) {
        let Task { group, first, last, column, last_column } = *task;
        let (depth, outputs, count) = (self.weight.depth, g.part_outputs(), last_column - column);
        let (a_stride, c_stride) = (padded(depth), padded(count));
        let mut buffer = Scratch::of((last - first) * (a_stride + c_stride));
        let (a, c) = buffer.split_at_mut((last - first) * a_stride);
        let c = &mut c[..(last - first) * c_stride];
        let place = |pixel: usize| {
            let (image, at) =
                (pixel / (self.rows.len() * self.columns.len()), pixel % (self.rows.len() * self.columns.len()));
            [image, self.rows[at / self.columns.len()], self.columns[at % self.columns.len()]]
        };
        for (pixel, to) in (first..last).zip(a.chunks_exact_mut(a_stride)) {
            let [image, row, col] = place(pixel);
            for ([kh, kw], to) in self.taps.iter().zip(to.chunks_exact_mut(outputs)) {
                let read = |at: usize, k: usize, size: usize| {
                    (at + g.padding).checked_sub(k).map(|at| at / g.stride).filter(|&at| at < size)
                };
                match (read(row, *kh, g.out_height()), read(col, *kw, g.out_width())) {
                    (Some(y), Some(x)) => {
                        let at = (image * g.out_plane() + y * g.out_width() + x) * g.out_channels + group * outputs;
                        to.copy_from_slice(&dy[at..][..outputs]);
                    }
                    _ => to.fill(0.0),
                }
            }
        }
        if depth == 0 {
            c.fill(0.0);
        } else {
            let size = Size { rows: last - first, columns: count, depth };
            let left = Left { data: a, stride: a_stride, order: Order::Rows };
            // SAFETY: only this task accesses its buffer.
            unsafe {
                let c = Target::new(c, c_stride);
                multiply(size, left, self.weight.right(group, column), c, Finish::default());
            }
        }
        for (pixel, from) in (first..last).zip(c.chunks_exact(c_stride)) {
            let [image, row, col] = place(pixel);
            let at = (image * g.in_plane() + row * g.width + col) * g.in_channels + group * g.part_inputs() + column;
            // SAFETY: the pixel lies within the buffer, and only this task accesses these channels of it.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), dx.at(at), count) };
        }
    }
}
