//! Single-threaded matrix products. The left operand is read where it lies, row by row or column by column; the right
//! operand is read in panels of [`panel_width`] columns, packed one after the other or as they lie in a matrix.
//!
//! Maps with the channels last are matrices of pixels and channels, so that most convolutions read and write them
//! without packing.
pub(crate) mod isa;
pub(crate) mod lanes;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use super::parallel::SharedMut;
use isa::on_best_isa;
pub(crate) use isa::{block_rows, panel_width};
pub use isa::{force_instruction_set, instruction_set};
use lanes::Lanes;

/// The order in which a left operand `[rows, depth]` lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The elements of a row are neighbours: `stride` is the distance of the rows.
    Rows,
    /// The elements of a column are neighbours: `stride` is the distance of the columns.
    Columns,
}

/// The left operand of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left<'a> {
    /// Elements from the first row and column on.
    pub(crate) data: &'a [f32],
    /// Number of elements from a row to the next, or from a column to the next.
    pub(crate) stride: usize,
    pub(crate) order: Order,
}

/// The right operand of a product, in panels of [`panel_width`] columns. All elements of the last panel must be
/// readable, also those beyond the last column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right<'a> {
    /// Elements from the first row and column on.
    pub(crate) data: &'a [f32],
    /// Number of elements from a row to the next.
    pub(crate) row_stride: usize,
    /// Number of elements from the start of a panel to the start of the next.
    pub(crate) panel_stride: usize,
}

/// Where a product is written: a matrix whose rows are `stride` elements apart.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    data: *mut f32,
    stride: usize,
    buffer: PhantomData<&'a mut [f32]>,
}

impl<'a> Target<'a> {
    /// A target that begins with the first element of `buffer`.
    pub(crate) fn new(buffer: &'a mut [f32], stride: usize) -> Self {
        Self { data: buffer.as_mut_ptr(), stride, buffer: PhantomData }
    }

    /// A target that begins with element `offset` of a buffer that other tasks also write to.
    ///
    /// # Safety
    /// `offset` must lie within the buffer.
    pub(crate) unsafe fn shared(buffer: SharedMut<'a>, offset: usize, stride: usize) -> Self {
        // SAFETY: the caller's promise.
        let data = unsafe { buffer.at(offset) };
        Self { data, stride, buffer: PhantomData }
    }
}

/// What is done with the sums of products before they are written: `activation(sum * scale + shift + residual)`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Finish<'a> {
    /// Whether the product is added to the target. The other fields must then be absent.
    pub(crate) accumulate: bool,
    /// Factor of each column, or `None` for 1. As many elements as whole panels have columns must be readable.
    pub(crate) scale: Option<&'a [f32]>,
    /// Number added to each column, or `None` for 0. As many elements as whole panels have columns must be readable.
    pub(crate) shift: Option<&'a [f32]>,
    /// Matrix that is added; its rows have the distance of those of the target.
    pub(crate) residual: Option<&'a [f32]>,
    /// Whether a ReLU is applied last.
    pub(crate) relu: bool,
}

/// The sizes of a product `[rows, depth] * [depth, columns]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Number of rows of the product.
    pub(crate) rows: usize,
    /// Number of columns of the product.
    pub(crate) columns: usize,
    /// Number of products that are summed for each element.
    pub(crate) depth: usize,
}

impl Size {
    fn check(&self, a: &Left<'_>, b: &Right<'_>, c: &Target<'_>, finish: &Finish<'_>) {
        let Self { rows, columns, depth } = *self;
        let (outer, inner) = match a.order {
            Order::Rows => (rows, depth),
            Order::Columns => (depth, rows),
        };
        assert!((outer - 1) * a.stride + inner <= a.data.len(), "{self:?}: the left operand is too short");
        let panels = columns.div_ceil(panel_width());
        let last = (panels - 1) * b.panel_stride + (depth - 1) * b.row_stride + panel_width();
        assert!(last <= b.data.len(), "{self:?}: the right operand is too short");
        let whole = panels * panel_width();
        let long = |values: Option<&[f32]>, len: usize| values.is_none_or(|values| values.len() >= len);
        assert!(long(finish.scale, whole) && long(finish.shift, whole), "{self:?}: scale or shift is too short");
        assert!(long(finish.residual, (rows - 1) * c.stride + columns), "{self:?}: the residual is too short");
    }
}

/// Writes `a * b` to `c`, with the operations of `finish` applied.
///
/// # Safety
/// `c` must be writable at every element of the result, and initialised if the product is added to it. No other thread
/// may access these elements during the call.
///
/// # Panics
/// If an operand has too few elements.
pub(crate) unsafe fn multiply(size: Size, a: Left<'_>, b: Right<'_>, c: Target<'_>, finish: Finish<'_>) {
    if size.rows == 0 || size.columns == 0 || size.depth == 0 {
        assert!(size.depth > 0 || size.rows * size.columns == 0, "{size:?}: a product needs a depth");
        return;
    }
    size.check(&a, &b, &c, &finish);
    // SAFETY: the caller's promise; the operands are long enough.
    unsafe {
        match a.order {
            Order::Rows => multiply_rows(size, a, b, c, finish),
            Order::Columns => multiply_columns(size, a, b, c, finish),
        }
    }
}

on_best_isa! {
    /// [`multiply`] for a left operand in [`Order::Rows`].
    unsafe fn multiply_rows(size: Size, a: Left<'_>, b: Right<'_>, c: Target<'_>, finish: Finish<'_>) = rows_on
}

on_best_isa! {
    /// [`multiply`] for a left operand in [`Order::Columns`].
    unsafe fn multiply_columns(size: Size, a: Left<'_>, b: Right<'_>, c: Target<'_>, finish: Finish<'_>) = columns_on
}

#[inline(always)]
unsafe fn rows_on<L: Lanes, const V: usize, const R: usize>(
    size: Size,
    a: Left<'_>,
    b: Right<'_>,
    c: Target<'_>,
    finish: Finish<'_>,
) {
    // SAFETY: the caller's promise.
    unsafe { multiply_on::<L, V, R, false>(size, a, b, c, finish) }
}

#[inline(always)]
unsafe fn columns_on<L: Lanes, const V: usize, const R: usize>(
    size: Size,
    a: Left<'_>,
    b: Right<'_>,
    c: Target<'_>,
    finish: Finish<'_>,
) {
    // SAFETY: the caller's promise.
    unsafe { multiply_on::<L, V, R, true>(size, a, b, c, finish) }
}

/// Number of rows of the smaller blocks, into which the rows beyond the last whole block are divided first.
const FEW: usize = 4;

#[inline(always)]
unsafe fn multiply_on<L: Lanes, const V: usize, const R: usize, const TURNED: bool>(
    size: Size,
    a: Left<'_>,
    b: Right<'_>,
    c: Target<'_>,
    finish: Finish<'_>,
) {
    let width = V * L::N;
    for (panel, column) in (0..size.columns).step_by(width).enumerate() {
        let mut row = 0;
        while row < size.rows {
            let columns = (size.columns - column).min(width);
            // SAFETY: the operands are long enough for all rows, columns and the whole depth.
            unsafe {
                let block = Block {
                    depth: size.depth,
                    a: a.data.as_ptr().add(if TURNED { row } else { row * a.stride }),
                    a_stride: a.stride,
                    b: b.data.as_ptr().add(panel * b.panel_stride),
                    b_stride: b.row_stride,
                    c: c.data.add(row * c.stride + column),
                    at: row * c.stride + column,
                    c_stride: c.stride,
                    column,
                    columns,
                };
                let rest = size.rows - row;
                row += if columns <= L::N && V > 1 {
                    block.rows::<L, 1, R, TURNED>(rest, &finish)
                } else {
                    block.rows::<L, V, R, TURNED>(rest, &finish)
                };
            }
        }
    }
}

/// A block of the result, which is computed in registers.
struct Block {
    depth: usize,
    /// The first row of the block in the left operand.
    a: *const f32,
    a_stride: usize,
    /// The panel of the right operand.
    b: *const f32,
    b_stride: usize,
    /// The upper left element of the block in the target.
    c: *mut f32,
    /// The index of that element in the target.
    at: usize,
    c_stride: usize,
    /// The first column of the block, and the number of its columns.
    column: usize,
    columns: usize,
}

impl Block {
    /// Computes a whole block, or a smaller one if there are less than `R` rows, and returns the number of rows.
    ///
    /// # Safety
    /// That of [`multiply`], for the rows and columns of the block.
    #[inline(always)]
    unsafe fn rows<L: Lanes, const V: usize, const R: usize, const TURNED: bool>(
        &self,
        rest: usize,
        finish: &Finish<'_>,
    ) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            if rest >= R {
                self.put(&self.sums::<L, V, R, TURNED>(), finish);
                R
            } else if rest >= FEW {
                self.put(&self.sums::<L, V, FEW, TURNED>(), finish);
                FEW
            } else {
                self.put(&self.sums::<L, V, 1, TURNED>(), finish);
                1
            }
        }
    }

    /// The sums of products of `R` rows of `V` vectors.
    ///
    /// # Safety
    /// The operands must be readable at these rows and columns.
    #[inline(always)]
    unsafe fn sums<L: Lanes, const V: usize, const R: usize, const TURNED: bool>(&self) -> [[L; V]; R] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[L::splat(0.0); V]; R];
            for k in 0..self.depth {
                let mut right = [L::splat(0.0); V];
                for (v, right) in right.iter_mut().enumerate() {
                    *right = L::load(self.b.add(k * self.b_stride + v * L::N));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let at = if TURNED { k * self.a_stride + r } else { r * self.a_stride + k };
                    let left = L::splat(*self.a.add(at));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = left.mul_add(right, *sum);
                    }
                }
            }
            sums
        }
    }

    /// Applies `finish` and writes the sums.
    ///
    /// # Safety
    /// The target must be writable at these rows and columns, and initialised if the sums are added to it.
    #[inline(always)]
    unsafe fn put<L: Lanes, const V: usize, const R: usize>(&self, sums: &[[L; V]; R], finish: &Finish<'_>) {
        // SAFETY: the caller's promise; scale and shift have elements for whole panels, the residual for all elements.
        unsafe {
            for v in 0..V {
                let count = self.columns.saturating_sub(v * L::N).min(L::N);
                let whole = count == L::N;
                let load = |from: *const f32| if whole { L::load(from) } else { L::load_part(from, count) };
                let of_column =
                    |values: Option<&[f32]>| values.map(|values| L::load(values.as_ptr().add(self.column + v * L::N)));
                let (scale, shift) = (of_column(finish.scale), of_column(finish.shift));
                for (r, sums) in sums.iter().enumerate() {
                    let at = r * self.c_stride + v * L::N;
                    let to = self.c.add(at);
                    let mut sum = sums[v];
                    if finish.accumulate {
                        sum = sum.add(load(to));
                    }
                    sum = match (scale, shift) {
                        (Some(scale), Some(shift)) => sum.mul_add(scale, shift),
                        (Some(scale), None) => sum.mul(scale),
                        (None, Some(shift)) => sum.add(shift),
                        (None, None) => sum,
                    };
                    if let Some(residual) = finish.residual {
                        sum = sum.add(load(residual.as_ptr().add(self.at + at)));
                    }
                    if finish.relu {
                        sum = sum.relu();
                    }
                    if whole {
                        sum.store(to);
                    } else {
                        sum.store_part(to, count);
                    }
                }
            }
        }
    }
}
