//! Errors as messages on stderr and exit codes.

use std::fmt;
use std::sync::Mutex;

use crate::console::note;

/// Exit code of a command that succeeded.
pub(crate) const DONE: u8 = 0;
/// Exit code of a command that failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code for a wrong command line.
pub(crate) const USAGE: u8 = 2;
/// Exit code after an interruption by the user; the training state is saved.
pub(crate) const INTERRUPTED: u8 = 130;

/// An error in the command line; the text says what was expected and what was found. Exit code [`USAGE`].
#[derive(Debug)]
pub(crate) struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Prints an error and its causes on one line of stderr, and returns the exit code.
///
/// A cause whose text is already part of the message is left out.
pub(crate) fn report(error: &anyhow::Error) -> u8 {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    note!("error: {text}");
    if error.is::<Usage>() { USAGE } else { FAILED }
}

/// The message of the last panic of the main thread, and of the last panic of any thread.
static PANICS: Mutex<Panics> = Mutex::new(Panics { main: None, any: None });

struct Panics {
    main: Option<String>,
    any: Option<String>,
}

/// Records the messages of panics instead of printing them.
///
/// Burn probes GPU drivers and catches the panics that this causes, so they must not be printed. [`report_panic`]
/// prints a panic that ends the command.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let message = info.payload_as_str().unwrap_or("no message");
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = format!("{message}{place}");
        if let Ok(mut panics) = PANICS.lock() {
            if std::thread::current().name() == Some("main") {
                panics.main = Some(text.clone());
            }
            panics.any = Some(text);
        }
    }));
}

/// Prints the panic that ended the command as an internal error, on one line of stderr, and returns the exit code.
pub(crate) fn report_panic() -> u8 {
    let text = PANICS.lock().ok().and_then(|mut panics| panics.main.take().or(panics.any.take()));
    note!("error: internal error, please report it as a bug of foveal: {}", text.unwrap_or_default());
    FAILED
}
