//! Sums of many numbers, in an order that depends on nothing but their number.
use cubecl::prelude::*;

/// Number of units of a workgroup, which every adapter supports.
pub(super) const UNITS: usize = 256;
/// Number of values that are added before their sum is added to a total, so that rounding errors stay small.
pub(super) const INNER: usize = 32;

/// Adds up each row of `from`, `[rows, columns]`, to `to_columns` sums, `[rows, to_columns]`.
#[cube(launch_unchecked)]
pub(super) fn narrow(from: &[f32], to: &mut [f32], rows: usize, columns: usize, to_columns: usize) {
    let at = ABSOLUTE_POS;
    if at < rows * to_columns {
        let row = at / to_columns;
        let mut place = at - row * to_columns;
        let mut sum = 0.0f32;
        while place < columns {
            sum += from[row * columns + place];
            place += to_columns;
        }
        to[at] = sum;
    }
}
