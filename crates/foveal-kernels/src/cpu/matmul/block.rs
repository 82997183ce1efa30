//! Blocks of a product, whose sums are held in registers.
use super::finish::Finish;
use super::lanes::Lanes;
use super::{COLUMNS, ROWS};

/// Computes one block of the result, of which `valid` rows and columns are written.
///
/// # Safety
/// As for [`tile`], except that `c` need only be writable at the valid rows and columns.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn block<L: Lanes, const V: usize, const R: usize>(
    depth: usize,
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
    finish: Option<Finish<'_>>,
    [rows, columns]: [usize; 2],
) {
    for r in 0..rows {
        L::prefetch(c.wrapping_add(r * c_stride));
    }
    if let Some(finish) = &finish {
        finish.prefetch::<L>(rows, c_stride);
    }
    // SAFETY: the caller's promise; an incomplete block is computed in a local buffer and then copied.
    unsafe {
        if rows == R && columns == COLUMNS {
            return tile::<L, V, R>(depth, a, a_stride, b, c, c_stride, accumulate, finish);
        }
        let mut whole = [[0f32; COLUMNS]; R];
        tile::<L, V, R>(depth, a, a_stride, b, whole.as_mut_ptr().cast(), COLUMNS, false, None);
        for (r, values) in whole.iter_mut().enumerate().take(rows) {
            let (values, to) = (&mut values[..columns], c.add(r * c_stride));
            if accumulate {
                for (i, v) in values.iter_mut().enumerate() {
                    *v += to.add(i).read();
                }
            }
            if let Some(finish) = &finish {
                finish.apply_to_part::<L>(values, r, r * c_stride);
            }
            std::ptr::copy_nonoverlapping(values.as_ptr(), to, columns);
        }
    }
}

/// Computes one block of the result in registers: `R` rows of `V` vectors.
///
/// # Safety
/// `a` must hold the panels of `R` rows and `b` one panel, both of depth `depth`. `c` must be writable at `R` rows of
/// [`COLUMNS`] elements, `c_stride` apart, and initialised if `accumulate` is set. Nobody else may access these
/// elements meanwhile.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile<L: Lanes, const V: usize, const R: usize>(
    depth: usize,
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
    finish: Option<Finish<'_>>,
) {
    const { assert!(V * L::N == COLUMNS) };
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[L::splat(0.0); V]; R];
        for k in 0..depth {
            let mut right = [L::splat(0.0); V];
            for (v, right) in right.iter_mut().enumerate() {
                *right = L::load(b.add(k * COLUMNS + v * L::N));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let left = L::splat(*a.add(r / ROWS * a_stride + k * ROWS + r % ROWS));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = left.mul_add(right, *sum);
                }
            }
            for panel in 0..R / ROWS {
                L::prefetch(a.wrapping_add((R / ROWS + panel) * a_stride + k * ROWS));
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let at = r * c_stride + v * L::N;
                let to = c.add(at);
                let sum = if accumulate { sum.add(L::load(to)) } else { sum };
                let value = match &finish {
                    Some(finish) => finish.apply(sum, r, at),
                    None => sum,
                };
                value.store(to);
            }
        }
    }
}
