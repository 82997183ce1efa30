//! Writing results to stdout or to files.

use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};
use foveal_base::write_atomically;
use serde::Serialize;

use crate::failure::ClosedPipe;

/// Writes a result to stdout.
///
/// # Errors
/// [`ClosedPipe`] if the reader has closed the pipe; otherwise the error of the system.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ClosedPipe.into()),
        other => other.context("cannot write to stdout"),
    }
}

/// Whether the path of a `--json` option is `-`, which stands for stdout.
pub(crate) fn is_stdout(path: Option<&Path>) -> bool {
    path == Some(Path::new("-"))
}

/// Writes a value as indented JSON to a file, or to stdout if the path is `-`.
///
/// # Errors
/// If the file or stdout cannot be written; the error names the path.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("cannot write the result as JSON")?;
    text.push('\n');
    if is_stdout(Some(path)) { print(&text) } else { write_file(path, text.as_bytes()) }
}

/// Writes a file atomically, and creates its folder if needed.
///
/// # Errors
/// If the file or folder cannot be written; the error names the path.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    create_parent(path)?;
    Ok(write_atomically(path, bytes)?)
}

/// Creates the folder of a file that is to be written.
///
/// # Errors
/// If the folder cannot be created; the error names it.
pub(crate) fn create_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create the folder {}", parent.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a result: as JSON to the path `json` if it is given, and as a table to stdout unless the JSON goes there.
///
/// # Errors
/// If the file or stdout cannot be written; [`ClosedPipe`] if the reader of stdout has closed it.
pub(crate) fn emit<T: Serialize>(json: Option<&Path>, value: &T, table: &str) -> Result<()> {
    if let Some(path) = json {
        write_json(path, value)?;
    }
    if is_stdout(json) { Ok(()) } else { print(table) }
}

/// Formats a number with `digits` significant digits: without an exponent from `fixed_from` to below 10^`digits`, else
/// with one. Zero and values that are not finite are formatted as by `{}`.
pub(crate) fn significant(value: f64, digits: usize, fixed_from: f64) -> String {
    let places = digits.saturating_sub(1);
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    // The exponent is that of the rounded number: 9.9999999 is 10.00000.
    let scientific = format!("{value:.places$e}");
    let exponent: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    if value.abs() < fixed_from || exponent >= digits as i32 {
        return scientific;
    }
    let decimals = (places as i32 - exponent).max(0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::significant;

    #[test]
    fn significant_digits() {
        assert_eq!(significant(0.004561205837965954, 7, 1e-4), "0.004561206");
        assert_eq!(significant(0.0011442185693, 6, 1e-2), "1.14422e-3");
        assert_eq!(significant(138629.43611, 7, 1e-2), "138629.4");
        assert_eq!(significant(316.54703025, 7, 1e-2), "316.5470");
        assert_eq!(significant(9.99999999, 3, 1e-2), "10.0");
        assert_eq!(significant(12345678.0, 4, 1e-2), "1.235e7");
        assert_eq!(significant(-0.5, 2, 1e-2), "-0.50");
        assert_eq!(significant(0.0, 3, 1e-2), "0");
    }
}
