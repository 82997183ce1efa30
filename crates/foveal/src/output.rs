//! Results on stdout or in files.

use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};
use foveal_base::write_atomically;
use serde::Serialize;

use crate::failure::ClosedPipe;

/// Writes a result to stdout.
///
/// # Errors
/// [`ClosedPipe`] when the reader has gone, other failures as they are.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ClosedPipe.into()),
        other => other.context("cannot write to stdout"),
    }
}

/// Where a `--json` result goes: nowhere, to stdout (`-`) or to a file.
pub fn is_stdout(path: Option<&Path>) -> bool {
    path == Some(Path::new("-"))
}

/// Writes a value as JSON to a file, or to stdout if the path is `-`.
///
/// # Errors
/// The file that cannot be written, and why.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("cannot form the JSON")?;
    text.push('\n');
    if is_stdout(Some(path)) { print(&text) } else { write_file(path, text.as_bytes()) }
}

/// Writes a file whole or not at all, and makes the folder that it lies in.
///
/// # Errors
/// The file or folder that cannot be written, and why.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    create_parent(path)?;
    Ok(write_atomically(path, bytes)?)
}

/// Makes the folder that a file is to be written into.
///
/// # Errors
/// The folder that cannot be made, and why.
pub fn create_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))
        }
        _ => Ok(()),
    }
}

/// A result with both faces: the table goes to stdout unless the JSON does.
///
/// # Errors
/// As [`write_json`] and [`print`].
pub fn emit<T: Serialize>(json: Option<&Path>, value: &T, table: &str) -> Result<()> {
    if let Some(path) = json {
        write_json(path, value)?;
    }
    if is_stdout(json) { Ok(()) } else { print(table) }
}

/// A number with so many significant digits: plain from `fixed_from` to below 10^digits, else with an exponent.
pub fn significant(value: f64, digits: usize, fixed_from: f64) -> String {
    let places = digits.saturating_sub(1);
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    // What the number is after rounding decides: 9.9999999 is 10.00000.
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
