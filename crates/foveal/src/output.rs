//! Writing results to stdout or to files.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};
use foveal_base::{Destination, destination, is_unprintable, printable, write_atomically};
use serde::Serialize;

/// Writes a table or list for people to stdout. Its line breaks remain; all other characters that would act on a
/// terminal are shown as escapes. Names in it are made printable before, because they could contain line breaks.
///
/// # Errors
/// If stdout cannot be written. A reader that has closed it, as `head` does, is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let lines: Vec<_> = text.split('\n').map(printable).collect();
    print_exact(&lines.join("\n"))
}

/// Writes text in a format of its own, such as TOML, to stdout as it is.
///
/// # Errors
/// If stdout cannot be written. A reader that has closed it, as `head` does, is no error.
pub(crate) fn print_exact(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if is_gone(&error) => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}

/// Whether the error of a write to stdout says that nobody reads it any more: the pipe or the terminal is closed. The
/// command goes on to its end then, so that its exit code is that of its work. A full disk is another error.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    /// The error of a terminal that has been closed; on a file it means a damaged disk.
    const EIO: i32 = 5;
    error.kind() == ErrorKind::BrokenPipe || (error.raw_os_error() == Some(EIO) && is_device())
}

/// Whether stdout is a device, such as a terminal. `isatty` cannot say so of a terminal that has been closed.
#[cfg(unix)]
fn is_device() -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileTypeExt;
    let copy = io::stdout().as_fd().try_clone_to_owned().map(std::fs::File::from);
    copy.and_then(|file| file.metadata()).is_ok_and(|known| known.file_type().is_char_device())
}

#[cfg(not(unix))]
fn is_device() -> bool {
    use std::io::IsTerminal;
    io::stdout().is_terminal()
}

/// Whether the path of a `--json` option stands for stdout: `-`, or a path of the system such as `/dev/stdout`.
pub(crate) fn is_stdout(path: Option<&Path>) -> bool {
    path.is_some_and(|path| path == Path::new("-") || destination(path).is_ok_and(|to| to == Destination::Stdout))
}

/// Replaces the characters of JSON text that would act on a terminal by JSON's own escapes. The values are the same:
/// outside strings, JSON has no such characters, and inside them serde_json has escaped those below U+0020.
fn json_for_terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) && c != '\n' {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04x}"));
        } else {
            out.push(c);
        }
    }
    out
}

/// Writes a value as indented JSON to a file, or to stdout if the path is `-`.
///
/// # Errors
/// If the file or stdout cannot be written; the error names the path.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("cannot write the result as JSON")?;
    text.push('\n');
    if is_stdout(Some(path)) { print_exact(&json_for_terminal(&text)) } else { write_file(path, text.as_bytes()) }
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
/// If the file or stdout cannot be written. A reader that has closed stdout is no error.
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
    use super::{json_for_terminal, significant};

    #[test]
    fn json_for_a_terminal_has_the_same_values() {
        let value = serde_json::json!({"a\u{1b}\u{9b}2J\n": ["\u{202e}\u{7f}\u{2028}", "青 \u{1f469}"]});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = json_for_terminal(&text);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert!(shown.contains("\\u009b") && shown.contains("青"), "{shown}");
        assert!(shown.chars().all(|c| c == '\n' || !foveal_base::is_unprintable(c)), "{shown}");
    }

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
