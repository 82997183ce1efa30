//! Layers of configuration values, one for each source.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use toml::{Table, Value};

use super::file::EXTENDS;
use super::{PATH_KEYS, PATH_LISTS, absolute};
use crate::failure::Usage;

/// The source of configuration values, for error messages.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A configuration file.
    File(PathBuf),
    /// The metadata of a checkpoint.
    Checkpoint(PathBuf),
    /// A `--set` option, as it was given.
    Set(String),
    /// An arm of a lab.
    Arm(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Checkpoint(path) => write!(f, "{}", path.display()),
            Self::Set(text) => write!(f, "--set {text}"),
            Self::Arm(name) => write!(f, "arm {name}"),
        }
    }
}

/// Why `--set` and arms cannot contain the key `extends`.
const ONLY_FILES: &str = "`extends` is a key of configuration files only";

/// Configuration values of one source.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// The source of the values.
    pub origin: Origin,
    /// The values; paths are absolute.
    pub table: Table,
}

impl Layer {
    /// The values that an arm of a lab changes. Relative paths in it are relative to `folder`.
    ///
    /// # Errors
    /// If the arm contains the key `extends`.
    pub(crate) fn of_arm(name: &str, mut table: Table, folder: &Path) -> Result<Self> {
        let origin = Origin::Arm(name.to_owned());
        if table.contains_key(EXTENDS) {
            bail!("{origin}: {ONLY_FILES}; set the values in the arm");
        }
        resolve_paths(&mut table, folder);
        Ok(Self { origin, table })
    }

    /// Parses `key.path=value`. The value is parsed as TOML; if that fails, it is a string. Relative paths are relative
    /// to the working directory.
    ///
    /// # Errors
    /// [`Usage`] if the text does not have this form, or sets the key `extends`.
    pub(crate) fn from_set(text: &str) -> Result<Self> {
        let wrong = || Usage(format!("--set {text}: expected KEY.PATH=VALUE"));
        let (path, value) = text.split_once('=').ok_or_else(wrong)?;
        let mut parts: Vec<&str> = path.trim().split('.').map(str::trim).collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(wrong().into());
        }
        if parts[0] == EXTENDS {
            return Err(
                Usage(format!("--set {text}: {ONLY_FILES}; write a file with the key, or set the values")).into()
            );
        }
        let last = parts.pop().ok_or_else(wrong)?;
        let mut table = Table::from_iter([(last.to_owned(), parse_value(value.trim()))]);
        for part in parts.into_iter().rev() {
            table = Table::from_iter([(part.to_owned(), Value::Table(table))]);
        }
        resolve_paths(&mut table, Path::new(""));
        Ok(Self { origin: Origin::Set(text.to_owned()), table })
    }
}

fn parse_value(text: &str) -> Value {
    let string = || Value::String(text.to_owned());
    match toml::from_str::<Table>(&format!("value = {text}")) {
        Ok(mut table) if table.len() == 1 => table.remove("value").unwrap_or_else(string),
        _ => string(),
    }
}

/// The value at a dotted path, if the table contains it.
pub(super) fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    match (table.get(first)?, rest) {
        (value, None) => Some(value),
        (Value::Table(inner), Some(rest)) => get(inner, rest),
        _ => None,
    }
}

fn get_mut<'a>(table: &'a mut Table, path: &str) -> Option<&'a mut Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    match (table.get_mut(first)?, rest) {
        (value, None) => Some(value),
        (Value::Table(inner), Some(rest)) => get_mut(inner, rest),
        _ => None,
    }
}

/// Makes the relative paths of a table absolute; they are relative to `folder`.
pub(super) fn resolve_paths(table: &mut Table, folder: &Path) {
    let resolve = |path: &mut String| *path = absolute(&folder.join(&*path)).to_string_lossy().into_owned();
    for key in PATH_KEYS {
        if let Some(Value::String(path)) = get_mut(table, key) {
            resolve(path);
        }
    }
    for key in PATH_LISTS {
        let Some(Value::Array(entries)) = get_mut(table, key) else { continue };
        for entry in entries {
            match entry {
                Value::String(path) => resolve(path),
                Value::Table(set) => {
                    for path in ["annotations", "images"] {
                        if let Some(Value::String(path)) = set.get_mut(path) {
                            resolve(path);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}
