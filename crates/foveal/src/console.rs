//! Lines on stderr, which never end a command.

use std::io::{self, Write};

use foveal_base::printable;

/// Writes one line to stderr. Characters that would act on the terminal, line breaks included, are shown as escapes, so
/// that a name from a file can neither move the cursor nor forge a line; a message of several lines takes several calls.
///
/// A line that cannot be written is dropped: the reader of a pipe may have ended, the terminal may be closed, or the
/// disk of a log file may be full, and none of this is worth a training run.
pub(crate) fn line(text: &str) {
    let mut line = printable(text).into_owned();
    line.push('\n');
    // One write for the whole line, so that lines of several threads do not mix.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Formats a line and writes it to stderr with [`line`]. The arguments are those of `format!`.
macro_rules! note {
    ($($argument:tt)*) => {
        $crate::console::line(&format!($($argument)*))
    };
}
pub(crate) use note;
