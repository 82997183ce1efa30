//! Sums over the units of a workgroup, in an order that depends on nothing but the number of units.
use cubecl::prelude::*;

/// Number of units of a workgroup, a power of two that every adapter supports.
pub(super) const UNITS: usize = 256;

/// The sum of a value over all units of the workgroup, for every unit. `shared` has [`UNITS`] values. All units must
/// call it.
#[cube]
pub(super) fn sum_of_units<T: Numeric>(value: T, shared: &mut Shared<[T]>) -> T {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = comptime!(UNITS / 2).runtime();
    while half > 0 {
        if unit < half {
            let other = shared[unit + half];
            shared[unit] += other;
        }
        sync_cube();
        half /= 2;
    }
    let sum = shared[0];
    // Nobody may write the next values before all have read this sum.
    sync_cube();
    sum
}
