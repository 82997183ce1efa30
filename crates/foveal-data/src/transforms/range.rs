//! Checks of ranges of random values.

use foveal_base::{SettingError, check};

/// Accepts a range `[low, high]` that rises or is a single value, and of which both ends lie in `limits`.
///
/// # Errors
/// [`SettingError`] with the key, the limits and the range.
pub(super) fn rising(key: &str, range: [f32; 2], limits: [f32; 2]) -> Result<(), SettingError> {
    let ([low, high], [least, most]) = (range, limits);
    let expected = format!("[low, high] with {least} <= low <= high <= {most}");
    check::that(least <= low && low <= high && high <= most, key, &expected, &range)
}
