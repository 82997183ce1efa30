//! The error of a configuration value that cannot be used.

use std::fmt::Debug;

/// A configuration value that cannot be used. The message names the key, the values that are possible and the value
/// that was found: `model.head.prior: expected a number between 0 and 1, found 1.5`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: expected {expected}, found {found}")]
pub struct SettingError {
    /// The key, prefixed with the sections that contain it, such as `model.head.prior`.
    pub key: String,
    /// Description of the possible values, such as `a number from 0 to 1`.
    pub expected: String,
    /// The value that was found, in Rust's `Debug` format.
    pub found: String,
}

impl SettingError {
    /// Makes the error of the value `found` of a key. `key` is the name of the field in the struct that checks it;
    /// [`SettingError::within`] adds the sections.
    pub fn new(key: impl Into<String>, expected: impl Into<String>, found: &dyn Debug) -> Self {
        Self { key: key.into(), expected: expected.into(), found: format!("{found:?}") }
    }

    /// Returns the error with its key prefixed by a section: the key `prior` within `model.head` is `model.head.prior`.
    pub fn within(self, section: &str) -> Self {
        Self { key: format!("{section}.{}", self.key), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_whole_key_the_expectation_and_the_value() {
        let error = SettingError::new("prior", "a number between 0 and 1", &1.5).within("head").within("model");
        assert_eq!(error.to_string(), "model.head.prior: expected a number between 0 and 1, found 1.5");
        assert_eq!(SettingError::new("name", "a name", &"a/b").to_string(), "name: expected a name, found \"a/b\"");
    }
}
