//! How errors turn into messages and exit codes.

use std::fmt;
use std::sync::Mutex;

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

/// What the last panic said: of the main thread, and of any.
static PANICS: Mutex<Panics> = Mutex::new(Panics { main: None, any: None });

struct Panics {
    main: Option<String>,
    any: Option<String>,
}

/// Keeps what a panic says instead of printing it.
///
/// GPU drivers are tried out by Burn with panics that it catches itself; those are no news. One that ends the
/// command is told by [`report_panic`].
pub fn install_panic_hook() {
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

/// Prints one line on the panic that ended the command, as what it is, and gives the exit code.
pub fn report_panic() -> u8 {
    let text = PANICS.lock().ok().and_then(|mut panics| panics.main.take().or(panics.any.take()));
    eprintln!("error: internal error, please report it: {}", text.unwrap_or_default());
    FAILED
}
