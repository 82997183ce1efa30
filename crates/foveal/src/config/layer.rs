//! Layers of configuration values, one for each source.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use foveal_base::{excerpt, names, text::read_text};
use toml::{Table, Value};

use super::{PATH_KEYS, absolute};
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

/// Configuration values of one source.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// The source of the values.
    pub origin: Origin,
    /// The values; paths are absolute.
    pub table: Table,
}

impl Layer {
    /// Reads a configuration file. Relative paths in it are relative to its folder. Without the key `name`, the name is
    /// that of the file.
    ///
    /// # Errors
    /// If the file cannot be read or is not valid TOML; the error names the file and the line.
    pub(crate) fn from_file(path: &Path) -> Result<Self> {
        let text = read_text(path)
            .with_context(|| format!("cannot read the configuration {}{}", path.display(), near(path)))?;
        let mut table: Table = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            anyhow!("{}:{line}: invalid TOML: {}", path.display(), excerpt(error.message().replace('\n', " ")))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        resolve_paths(&mut table, folder);
        if !table.contains_key("name")
            && let Some(stem) = path.file_stem()
        {
            let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
            let name: String = stem.to_string_lossy().chars().map(plain).collect();
            table.insert("name".to_owned(), Value::String(name));
        }
        Ok(Self { origin: Origin::File(path.to_owned()), table })
    }

    /// The values that an arm of a lab changes. Relative paths in it are relative to `folder`.
    pub(crate) fn of_arm(name: &str, mut table: Table, folder: &Path) -> Self {
        resolve_paths(&mut table, folder);
        Self { origin: Origin::Arm(name.to_owned()), table }
    }

    /// Parses `key.path=value`. The value is parsed as TOML; if that fails, it is a string. Relative paths are relative
    /// to the working directory.
    ///
    /// # Errors
    /// [`Usage`] if the text does not have this form.
    pub(crate) fn from_set(text: &str) -> Result<Self> {
        let wrong = || Usage(format!("--set {text}: expected KEY.PATH=VALUE"));
        let (path, value) = text.split_once('=').ok_or_else(wrong)?;
        let mut parts: Vec<&str> = path.trim().split('.').map(str::trim).collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(wrong().into());
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

/// The end of a message about a file that does not exist: a path that may have been meant.
fn near(path: &Path) -> String {
    let hint = if path.exists() { None } else { names::hint(path) };
    hint.map_or_else(String::new, |hint| format!(" ({hint})"))
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

fn resolve_paths(table: &mut Table, folder: &Path) {
    for key in PATH_KEYS {
        if let Some(Value::String(path)) = get_mut(table, key) {
            *path = absolute(&folder.join(&*path)).to_string_lossy().into_owned();
        }
    }
}
