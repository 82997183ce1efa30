//! How errors turn into messages and exit codes.

use std::fmt;

/// Everything went well.
pub const DONE: u8 = 0;
/// Something failed.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// Interrupted by the user; the state is saved.
pub const INTERRUPTED: u8 = 130;

/// A command line that asks for something that does not exist.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Stdout was closed by its reader: no failure, and nothing to say.
#[derive(Debug)]
pub struct ClosedPipe;

impl fmt::Display for ClosedPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout is closed")
    }
}

impl std::error::Error for ClosedPipe {}

/// Prints an error with its causes on stderr and gives the exit code.
///
/// A cause whose text its parent already contains is left out.
pub fn report(error: &anyhow::Error) -> u8 {
    if error.is::<ClosedPipe>() {
        return DONE;
    }
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    eprintln!("error: {text}");
    if error.is::<Usage>() { USAGE } else { FAILED }
}

/// Turns a panic into one line that calls it what it is.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        eprintln!("error: internal error{place}: {message} (this is a bug in foveal, please report it)");
    }));
}
