//! Lines on stderr, which never end a command.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use foveal_base::printable;

/// Whether only warnings and errors are written (`--quiet`).
static QUIET: AtomicBool = AtomicBool::new(false);

/// Begins of the lines that `--quiet` does not leave out.
const LOUD: [&str; 2] = ["warning: ", "error: "];

/// Leaves out all lines from now on that are neither warnings nor errors.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether only warnings and errors are written.
pub(crate) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Writes one line to stderr. Characters that would act on the terminal, line breaks included, are shown as escapes, so
/// that a name from a file can neither move the cursor nor forge a line; [`lines`] writes a message of several lines.
///
/// A line that cannot be written is dropped: the reader of a pipe may have ended, the terminal may be closed, or the
/// disk of a log file may be full, and none of this is worth a training run.
pub(crate) fn line(text: &str) {
    lines([text]);
}

/// Writes a message of several lines to stderr, each as [`line`] does. The first one decides whether `--quiet` leaves
/// the message out.
pub(crate) fn lines<'a>(lines: impl IntoIterator<Item = &'a str>) {
    let mut text = String::new();
    for line in lines {
        if text.is_empty() && is_quiet() && !LOUD.iter().any(|begin| line.starts_with(begin)) {
            return;
        }
        text += &printable(line);
        text.push('\n');
    }
    // One write for the whole message, so that messages of several threads do not mix.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Formats a line and writes it to stderr with [`line`]. The arguments are those of `format!`.
macro_rules! note {
    ($($argument:tt)*) => {
        $crate::console::line(&format!($($argument)*))
    };
}
pub(crate) use note;
