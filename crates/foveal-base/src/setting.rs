//! The error of a configuration value.

use std::fmt::Debug;

/// A value of a configuration that cannot be used: which key, what would do, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: expected {expected}, found {found}")]
pub struct SettingError {
    /// The key, with the sections it lies in: `model.head.prior`.
    pub key: String,
    /// What values are possible.
    pub expected: String,
    /// The value.
    pub found: String,
}

impl SettingError {
    /// The error of a key, named as the struct that checks it names it.
    pub fn new(key: impl Into<String>, expected: impl Into<String>, found: &dyn Debug) -> Self {
        Self { key: key.into(), expected: expected.into(), found: format!("{found:?}") }
    }

    /// The error with its key inside a section: `prior` within `model.head` is `model.head.prior`.
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
