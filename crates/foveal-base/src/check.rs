//! Checks of single values that several sections of a configuration share.

use std::fmt::Debug;

use crate::SettingError;

/// Accepts a value if `ok` holds.
///
/// # Errors
/// The key with `expected` and the value.
pub fn that(ok: bool, key: &str, expected: &str, found: &dyn Debug) -> Result<(), SettingError> {
    if ok { Ok(()) } else { Err(SettingError::new(key, expected, found)) }
}

/// Accepts a number of things, if there is one at least.
///
/// # Errors
/// The key of a zero.
pub fn at_least_one(key: &str, value: usize) -> Result<(), SettingError> {
    that(value >= 1, key, "at least 1", &value)
}

/// Accepts numbers from 0 to 1.
///
/// # Errors
/// The key of any other number, NaN included.
pub fn fraction(key: &str, value: impl Into<f64> + Debug + Copy) -> Result<(), SettingError> {
    that((0.0..=1.0).contains(&value.into()), key, "a number from 0 to 1", &value)
}

/// Accepts numbers from 0 to below 1.
///
/// # Errors
/// The key of any other number, NaN included.
pub fn below_one(key: &str, value: impl Into<f64> + Debug + Copy) -> Result<(), SettingError> {
    that((0.0..1.0).contains(&value.into()), key, "a number from 0 to below 1", &value)
}

/// Accepts finite numbers from 0 on.
///
/// # Errors
/// The key of any other number, NaN included.
pub fn not_negative(key: &str, value: impl Into<f64> + Debug + Copy) -> Result<(), SettingError> {
    let number = value.into();
    that(number >= 0.0 && number.is_finite(), key, "a finite number, 0 or more", &value)
}

/// Accepts finite numbers above 0.
///
/// # Errors
/// The key of any other number, NaN included.
pub fn positive(key: &str, value: impl Into<f64> + Debug + Copy) -> Result<(), SettingError> {
    let number = value.into();
    that(number > 0.0 && number.is_finite(), key, "a finite number above 0", &value)
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
        let all: [fn(&str, f64) -> Result<(), SettingError>; 4] = [fraction, below_one, not_negative, positive];
        for check in all {
            assert!(check("k", f64::NAN).is_err() && check("k", f64::INFINITY).is_err());
        }
        // A number of single precision is told as it was written.
        assert_eq!(fraction("k", 1.1f32).unwrap_err().found, "1.1");
    }
}
