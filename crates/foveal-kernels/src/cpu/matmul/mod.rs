//! Single-threaded matrix products of operands that are packed into panels: [`ROWS`] rows of the left operand at a
//! time, [`COLUMNS`] columns of the right operand at a time. The innermost loop thus reads both in the order of memory.
//!
//! The caller packs the operands: convolutions write their transformed or unfolded inputs directly into panels.
mod block;
mod finish;
pub(crate) mod isa;
pub(crate) mod lanes;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use super::parallel::SharedMut;
use block::block;
pub(crate) use finish::Finish;
use isa::on_best_isa;
pub use isa::{force_instruction_set, instruction_set};
use lanes::Lanes;

/// Number of rows of a panel of the left operand, which is stored as `[depth, ROWS]`.
pub(crate) const ROWS: usize = 6;
/// Number of columns of a panel of the right operand, which is stored as `[depth, COLUMNS]`.
pub(crate) const COLUMNS: usize = 16;
/// Depth up to which a panel of the right operand stays in the first-level cache together with the left one. Deeper
/// products are cut, except those of Winograd's weight gradient, which are up to half as deep again.
pub(crate) const DEPTH: usize = 256;
/// Number of rows of the left operand that are best multiplied with all columns before the next rows, where the operand
/// is large and read many times: at full depth they take a fifth of a megabyte, so that they stay in the second-level
/// cache. A multiple of the rows of every block.
pub(crate) const ROW_BLOCK: usize = 192;

/// An operand of a product: panels one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    /// Elements from the start of the first panel on.
    pub(crate) data: &'a [f32],
    /// Number of elements from the start of a panel to the start of the next.
    pub(crate) stride: usize,
}

impl Panels<'_> {
    /// Whether `data` has room for `panels` panels of `depth * width` elements.
    fn hold(&self, panels: usize, depth: usize, width: usize) -> bool {
        panels == 0 || (panels - 1) * self.stride + depth * width <= self.data.len()
    }
}

/// Where a product is written: element `(row, column)` goes to `row * row_stride + column / COLUMNS * panel_stride +
/// column % COLUMNS`. A row-major matrix has a `panel_stride` of [`COLUMNS`].
#[derive(Debug)]
pub(crate) struct Target<'a> {
    data: *mut f32,
    row_stride: usize,
    panel_stride: usize,
    buffer: PhantomData<&'a mut [f32]>,
}

impl<'a> Target<'a> {
    /// A target that begins with the first element of `buffer`.
    pub(crate) fn new(buffer: &'a mut [f32], row_stride: usize, panel_stride: usize) -> Self {
        Self { data: buffer.as_mut_ptr(), row_stride, panel_stride, buffer: PhantomData }
    }

    /// A target that begins with element `offset` of a buffer that other tasks also write to.
    ///
    /// # Safety
    /// `offset` must lie within the buffer.
    pub(crate) unsafe fn shared(buffer: SharedMut<'a>, offset: usize, row_stride: usize, panel_stride: usize) -> Self {
        // SAFETY: the caller's promise.
        let data = unsafe { buffer.at(offset) };
        Self { data, row_stride, panel_stride, buffer: PhantomData }
    }

    /// The target from row `row` on.
    ///
    /// # Safety
    /// The row must lie within the buffer.
    pub(crate) unsafe fn rows_from(&mut self, row: usize) -> Target<'_> {
        // SAFETY: the caller's promise.
        let data = unsafe { self.data.add(row * self.row_stride) };
        Target { data, row_stride: self.row_stride, panel_stride: self.panel_stride, buffer: PhantomData }
    }

    /// Sets the first `columns` elements of `rows` rows to zero.
    ///
    /// # Safety
    /// The target must be a row-major matrix that is writable at these elements, and nobody else may access them
    /// meanwhile.
    pub(crate) unsafe fn clear(&mut self, rows: usize, columns: usize) {
        debug_assert_eq!(self.panel_stride, COLUMNS);
        for row in 0..rows {
            // SAFETY: the caller's promise.
            unsafe { std::ptr::write_bytes(self.data.add(row * self.row_stride), 0, columns) };
        }
    }
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

on_best_isa! {
    /// Writes row `row` of a right operand with `depth` rows into its panels. The last panel is padded with zeros.
    ///
    /// # Safety
    /// `panels` must hold all panels of the operand.
    unsafe fn put_row_unchecked(panels: &mut [f32], depth: usize, row: usize, values: &[f32]) = put_row_on
}

/// Writes row `row` of a right operand with `depth` rows into its panels. The last panel is padded with zeros.
#[inline]
pub(crate) fn put_row(panels: &mut [f32], depth: usize, row: usize, values: &[f32]) {
    assert!(row < depth && values.len().div_ceil(COLUMNS) * depth * COLUMNS <= panels.len());
    // SAFETY: checked above.
    unsafe { put_row_unchecked(panels, depth, row, values) };
}

#[inline(always)]
unsafe fn put_row_on<L: Lanes, const V: usize, const WIDE: usize>(
    panels: &mut [f32],
    depth: usize,
    row: usize,
    values: &[f32],
) {
    let (chunks, rest) = values.as_chunks::<COLUMNS>();
    // SAFETY: the caller's promise.
    unsafe {
        let mut to = panels.as_mut_ptr().add(row * COLUMNS);
        for chunk in chunks {
            for v in 0..V {
                L::load(chunk.as_ptr().add(v * L::N)).store(to.add(v * L::N));
            }
            to = to.wrapping_add(depth * COLUMNS);
        }
        if !rest.is_empty() {
            let mut chunk = [0f32; COLUMNS];
            chunk[..rest.len()].copy_from_slice(rest);
            std::ptr::copy_nonoverlapping(chunk.as_ptr(), to, COLUMNS);
        }
    }
}

on_best_isa! {
    /// Writes `a * b` to `c`, or adds it to `c` if `accumulate` is set.
    ///
    /// # Safety
    /// `a` must hold `size.rows` rows and `b` `size.columns` columns, both of depth `size.depth` and padded to whole
    /// panels (with any finite values). `c` must be writable at every element of the result, and initialised if
    /// `accumulate` is set. No other thread may access these elements during the call.
    pub(crate) unsafe fn multiply(size: Size, a: Panels<'_>, b: Panels<'_>, c: Target<'_>, accumulate: bool) = multiply_on
}

on_best_isa! {
    /// Computes the same as [`multiply`], and applies `finish` to the sums.
    ///
    /// # Safety
    /// As for [`multiply`]. `c` must be a row-major matrix. Scale and shift must have an element for each row, and the
    /// residual must have the elements of `c`.
    pub(crate) unsafe fn multiply_finish(
        size: Size,
        a: Panels<'_>,
        b: Panels<'_>,
        c: Target<'_>,
        accumulate: bool,
        finish: Finish<'_>,
    ) = multiply_finish_on
}

#[inline(always)]
unsafe fn multiply_on<L: Lanes, const V: usize, const WIDE: usize>(
    size: Size,
    a: Panels<'_>,
    b: Panels<'_>,
    c: Target<'_>,
    accumulate: bool,
) {
    // SAFETY: the caller's promise.
    unsafe { blocks::<L, V, WIDE>(size, a, b, c, accumulate, None) };
}

#[inline(always)]
unsafe fn multiply_finish_on<L: Lanes, const V: usize, const WIDE: usize>(
    size: Size,
    a: Panels<'_>,
    b: Panels<'_>,
    c: Target<'_>,
    accumulate: bool,
    finish: Finish<'_>,
) {
    debug_assert_eq!(c.panel_stride, COLUMNS);
    // SAFETY: the caller's promise.
    unsafe { blocks::<L, V, WIDE>(size, a, b, c, accumulate, Some(finish)) };
}

/// Computes a product block by block.
///
/// # Safety
/// As for [`multiply`] and [`multiply_finish`].
#[inline(always)]
unsafe fn blocks<L: Lanes, const V: usize, const WIDE: usize>(
    size: Size,
    a: Panels<'_>,
    b: Panels<'_>,
    c: Target<'_>,
    accumulate: bool,
    finish: Option<Finish<'_>>,
) {
    let Size { rows, columns, depth } = size;
    debug_assert!(a.hold(rows.div_ceil(ROWS), depth, ROWS), "{size:?}: the left operand is too short");
    debug_assert!(b.hold(columns.div_ceil(COLUMNS), depth, COLUMNS), "{size:?}: the right operand is too short");
    let a_stride = a.stride;
    const { assert!(ROW_BLOCK.is_multiple_of(WIDE) && ROW_BLOCK.is_multiple_of(ROWS)) };
    for column in (0..columns).step_by(COLUMNS) {
        let valid_columns = (columns - column).min(COLUMNS);
        let mut row = 0;
        while row < rows {
            let height = if WIDE > ROWS && rows - row > ROWS { WIDE } else { ROWS };
            // SAFETY: the caller's promise.
            unsafe {
                let a = a.data.as_ptr().add(row / ROWS * a.stride);
                let b = b.data.as_ptr().add(column / COLUMNS * b.stride);
                let to = c.data.add(row * c.row_stride + column / COLUMNS * c.panel_stride);
                let valid = [(rows - row).min(height), valid_columns];
                let finish = finish.map(|finish| finish.from(row, row * c.row_stride + column));
                if height == ROWS {
                    block::<L, V, ROWS>(depth, a, a_stride, b, to, c.row_stride, accumulate, finish, valid);
                } else {
                    block::<L, V, WIDE>(depth, a, a_stride, b, to, c.row_stride, accumulate, finish, valid);
                }
            }
            row += height;
        }
    }
}
