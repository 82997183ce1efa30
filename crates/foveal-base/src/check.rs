//! Checks of single configuration values that several sections of the configuration share.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use crate::SettingError;

/// Accepts the value `found` of the configuration key `key` if `ok` is true.
///
/// # Errors
/// [`SettingError`] with the key, the description `expected` of the possible values, and the value, if `ok` is false.
pub fn that(ok: bool, key: &str, expected: &str, found: &dyn Debug) -> Result<(), SettingError> {
    if ok { Ok(()) } else { Err(SettingError::new(key, expected, found)) }
}

/// Accepts a count of at least 1.
///
/// # Errors
/// [`SettingError`] with the key if the value is 0.
pub fn at_least_one(key: &str, value: usize) -> Result<(), SettingError> {
    that(value >= 1, key, "at least 1", &value)
}

/// Accepts a count in `range`. The upper end is far above any sensible value: it keeps sizes that are computed from the
/// count from overflowing, and memory from being reserved for a mistyped number.
///
/// # Errors
/// [`SettingError`] with the key, the range and the value if the count is outside the range.
pub fn count<N>(key: &str, value: N, range: RangeInclusive<u64>) -> Result<(), SettingError>
where
    N: TryInto<u64> + Debug + Copy,
{
    let inside = value.try_into().is_ok_and(|value: u64| range.contains(&value));
    let expected = match range.start() {
        0 => format!("at most {}", range.end()),
        start => format!("at least {start} and at most {}", range.end()),
    };
    that(inside, key, &expected, &value)
}

/// Accepts numbers from 0 to 1, both included.
///
/// # Errors
/// [`SettingError`] with the key and the value if the number is below 0, above 1 or NaN.
pub fn fraction(key: &str, value: impl Into<f64> + Debug + Copy) -> Result<(), SettingError> {
    that((0.0..=1.0).contains(&value.into()), key, "a number from 0 to 1", &value)
}

/// Accepts numbers that are at least 0 and less than 1, also after they are rounded to single precision.
///
/// # Errors
/// [`SettingError`] with the key and the value if the number is below 0, is 1 or more, or is NaN.
pub fn below_one(key: &str, value: impl Into<f64> + Debug + Copy) -> Result<(), SettingError> {
    let number = value.into();
    that((0.0..1.0).contains(&number), key, "a number that is at least 0 and less than 1", &value)?;
    that((number as f32) < 1.0, key, "a number below 1 in single precision, at most 0.99999994", &value)
}

/// Accepts finite numbers that are 0 or greater and that single precision can hold. A tensor rounds a larger number to
/// infinity.
///
/// # Errors
/// [`SettingError`] with the key and the value if the number is negative, infinite or NaN, or above 3.4e38.
pub fn not_negative(key: &str, value: impl Into<f64> + Debug + Copy) -> Result<(), SettingError> {
    let number = value.into();
    that(number >= 0.0 && number.is_finite(), key, "a finite number, 0 or more", &value)?;
    that((number as f32).is_finite(), key, "a number that single precision can hold, at most 3.4e38", &value)
}

/// Accepts finite numbers that are greater than 0 and that single precision can hold. A tensor rounds a smaller number
/// to 0 and a larger one to infinity.
///
/// # Errors
/// [`SettingError`] with the key and the value if the number is 0, negative, infinite or NaN, or not between 1.2e-38
/// and 3.4e38.
pub fn positive(key: &str, value: impl Into<f64> + Debug + Copy) -> Result<(), SettingError> {
    let number = value.into();
    that(number > 0.0 && number.is_finite(), key, "a finite number above 0", &value)?;
    let expected = "a number that single precision can hold, from 1.2e-38 to 3.4e38";
    that((number as f32).is_normal(), key, expected, &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_closed_and_open_where_they_say_so() {
        assert!(fraction("k", 1.0).is_ok() && fraction("k", 0.0f32).is_ok() && fraction("k", 1.1).is_err());
        assert!(below_one("k", 0.0).is_ok() && below_one("k", 1.0).is_err());
        assert!(not_negative("k", 0.0).is_ok() && not_negative("k", -0.1).is_err());
        assert!(positive("k", 0.1f32).is_ok() && positive("k", 0.0).is_err());
        assert!(at_least_one("k", 1).is_ok() && at_least_one("k", 0).is_err());
        assert!(count("k", 1u32, 1..=9).is_ok() && count("k", 9usize, 1..=9).is_ok());
        let error = count("k", usize::MAX, 1..=9).unwrap_err();
        assert_eq!(error.to_string(), "k: expected at least 1 and at most 9, found 18446744073709551615");
        type Check = fn(&str, f64) -> Result<(), SettingError>;
        for check in [fraction as Check, below_one, not_negative, positive] {
            assert!(check("k", f64::NAN).is_err() && check("k", f64::INFINITY).is_err());
        }
        // Tensors would round these to infinity, 0 and 1.
        assert!(not_negative("k", 1e39).is_err() && positive("k", 1e39).is_err() && positive("k", 1e-50).is_err());
        assert!(below_one("k", 1.0 - 1e-9).is_err() && below_one("k", 0.9999).is_ok() && positive("k", 1e-30).is_ok());
        // A number in single precision is shown with the digits that were written.
        assert_eq!(fraction("k", 1.1f32).unwrap_err().found, "1.1");
    }
}
