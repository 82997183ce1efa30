//! Checks of configuration values, each with a message that names key, value and what was expected.

use std::fmt::Debug;

/// A configuration value that no run could work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value out of range.
    #[error("{key} = {value}: expected {expected}")]
    Value {
        /// The whole key, `train.lr`.
        key: &'static str,
        /// The value found.
        value: String,
        /// What is possible.
        expected: &'static str,
    },
    /// A network, its anchors or data that cannot be: the message of the crate that knows.
    #[error("{0}")]
    Section(String),
}

/// The checks that several sections share.
pub(super) struct Checker;

impl Checker {
    pub(super) fn that(
        &self,
        ok: bool,
        key: &'static str,
        value: &dyn Debug,
        expected: &'static str,
    ) -> Result<(), ConfigError> {
        if ok { Ok(()) } else { Err(ConfigError::Value { key, value: format!("{value:?}"), expected }) }
    }

    pub(super) fn at_least_one(&self, key: &'static str, value: usize) -> Result<(), ConfigError> {
        self.that(value >= 1, key, &value, "at least 1")
    }

    pub(super) fn fraction(&self, key: &'static str, value: f64) -> Result<(), ConfigError> {
        self.that((0.0..=1.0).contains(&value), key, &value, "a number from 0 to 1")
    }

    pub(super) fn below_one(&self, key: &'static str, value: f64) -> Result<(), ConfigError> {
        self.that((0.0..1.0).contains(&value), key, &value, "a number from 0 to below 1")
    }

    pub(super) fn not_negative(&self, key: &'static str, value: f64) -> Result<(), ConfigError> {
        self.that(value >= 0.0 && value.is_finite(), key, &value, "a finite number, 0 or more")
    }

    pub(super) fn positive(&self, key: &'static str, value: f64) -> Result<(), ConfigError> {
        self.that(value > 0.0 && value.is_finite(), key, &value, "a finite number above 0")
    }
}
