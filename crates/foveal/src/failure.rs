//! Errors and panics as messages on stderr and exit codes.

use std::fmt;
use std::sync::Mutex;

use foveal_base::printable;
use foveal_data::DataError;
use foveal_formats::FormatError;
use foveal_train::{DeviceFault, FaultKind, TrainError};

use crate::console::{self, note};

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

/// Prints an error and its causes on stderr, and returns the exit code. The message is one line, unless the error lists
/// defects.
///
/// A cause whose text is already part of the message is left out.
pub(crate) fn report(error: &anyhow::Error) -> u8 {
    console::lines(format!("error: {}", message(error)).split('\n'));
    if error.is::<Usage>() { USAGE } else { FAILED }
}

/// The message of an error and its causes. Its line breaks are those between listed defects; those in names of files
/// and other texts are shown as escapes.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let shown = cause.to_string();
        let cause = if is_list(cause) { shown } else { printable(&shown).into_owned() };
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whether an error lists defects, one on each line. The texts of these errors contain no other line breaks.
fn is_list(error: &(dyn std::error::Error + 'static)) -> bool {
    let of_data = |error: &DataError| matches!(error, DataError::Check(_) | DataError::Unusable(_));
    if let Some(error) = error.downcast_ref::<FormatError>() {
        return matches!(error, FormatError::Listed { .. });
    }
    match error.downcast_ref::<TrainError>() {
        Some(TrainError::Data(error)) => of_data(error),
        Some(_) => false,
        None => error.downcast_ref::<DataError>().is_some_and(of_data),
    }
}

/// The messages of the panics of this process.
static PANICS: Mutex<Panics> = Mutex::new(Panics::none());

/// The messages of the last panics.
struct Panics {
    /// Of the main thread.
    main: Option<String>,
    /// Of any thread.
    any: Option<String>,
    /// Of any thread that says why a device failed. The threads of a device catch their panics, and the main thread
    /// then fails at a value that was never computed.
    device: Option<String>,
}

impl Panics {
    const fn none() -> Self {
        Self { main: None, any: None, device: None }
    }

    fn record(&mut self, text: String, is_main: bool) {
        if DeviceFault::recognise(&text).is_some() {
            self.device = Some(text.clone());
        }
        if is_main {
            self.main = Some(text.clone());
        }
        self.any = Some(text);
    }

    /// Describes the panic that ended a command or a part of it. `batch_size` is the setting of its batch size.
    fn caught(&mut self, batch_size: Option<&str>) -> Caught {
        let text = self.main.take().or(self.any.take()).unwrap_or_default();
        let fault = DeviceFault::cause(&text, self.device.take().as_deref());
        let out_of_memory = fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::OutOfMemory);
        let text = match (fault, batch_size) {
            (Some(DeviceFault { kind: FaultKind::OutOfMemory, text }), Some(key)) => format!(
                "the device ran out of memory: {text}. Lower {key} or the size of the images, or choose another --device"
            ),
            (Some(DeviceFault { kind: FaultKind::OutOfMemory, text }), None) => {
                format!("the device ran out of memory: {text}. Choose another --device")
            }
            (Some(DeviceFault { text, .. }), _) => format!(
                "the device was lost: {text}. If it happens again, look for messages of the driver in the system's log, \
                 update the driver, or choose another --device"
            ),
            (None, _) => format!("internal error, please report it as a bug of foveal: {text}"),
        };
        Caught { text, out_of_memory }
    }
}

/// A panic that was caught.
pub(crate) struct Caught {
    /// What failed and what to do, without `error: `.
    pub text: String,
    /// Whether the device had no memory. It can then be used on; after other panics it may be lost.
    pub out_of_memory: bool,
}

/// Describes the last panic, as a failure of the device or as an internal error. `batch_size` is the setting of the
/// batch size of the command.
pub(crate) fn caught(batch_size: Option<&str>) -> Caught {
    let caught = PANICS.lock().map(|mut panics| panics.caught(batch_size));
    caught.unwrap_or_else(|_| Caught { text: "internal error".to_owned(), out_of_memory: false })
}

/// Forgets what threads have said about the device, because the work so far has succeeded: tuning also tries kernels
/// for which there is no memory, and their messages explain no later failure.
pub(crate) fn forget_device_report() {
    if let Ok(mut panics) = PANICS.lock() {
        panics.device = None;
    }
}

/// The message of the last panic of a thread that says why a device failed, if there was one.
pub(crate) fn device_report() -> Option<String> {
    PANICS.lock().ok()?.device.clone()
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
            panics.record(text, std::thread::current().name() == Some("main"));
        }
    }));
}

/// Prints the panic that ended the command on one line of stderr, and returns the exit code. `batch_size` is the
/// setting of the batch size of the command.
pub(crate) fn report_panic(batch_size: Option<&str>) -> u8 {
    note!("error: {}", caught(batch_size).text);
    FAILED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_internal_error_unless_the_device_caused_it() {
        let read = "Error while reading data: use `try_into_data` instead at base.rs:2076";
        let caught = |records: &[(&str, bool)], batch_size| {
            let mut panics = Panics::none();
            records.iter().for_each(|(text, is_main)| panics.record((*text).to_owned(), *is_main));
            panics.caught(batch_size)
        };
        let line = |records: &[(&str, bool)]| caught(records, Some("eval.batch_size")).text;
        assert!(
            line(&[("index out of bounds at a.rs:1", true)]).contains("please report it as a bug of foveal: index")
        );
        let lines = [
            line(&[("wgpu error: Out of Memory at device_poison.rs:48", false), (read, true)]),
            line(&[("wgpu error: Out of Memory at device_poison.rs:48", true)]),
        ];
        for line in lines {
            assert!(line.starts_with("the device ran out of memory: wgpu error: Out of Memory"), "{line}");
            assert!(line.contains("Lower eval.batch_size"), "{line}");
        }
        let full = [("wgpu error: Out of Memory", true)];
        assert!(caught(&full, Some("bench.batch_size")).text.contains("Lower bench.batch_size or the size"));
        let Caught { text, out_of_memory } = caught(&full, None);
        assert!(out_of_memory && text.ends_with("Out of Memory. Choose another --device"), "{text}");
        let lost = line(&[("Error while reading data: DevicePoisoned(\"Unknown\") at base.rs:2076", true)]);
        assert!(lost.starts_with("the device was lost: ") && lost.contains("--device"), "{lost}");
        assert!(!caught(&[("The device is poisoned", true)], None).out_of_memory);
        // A panic that was described explains no later one.
        let mut panics = Panics::none();
        panics.record("wgpu error: Out of Memory".to_owned(), false);
        panics.record(read.to_owned(), true);
        assert!(panics.caught(None).out_of_memory);
        panics.record(read.to_owned(), true);
        assert!(panics.caught(None).text.starts_with("internal error"));
        // Memory that ran out in a kernel that was only tried does not explain a later bug.
        let bug = line(&[("wgpu error: Out of Memory", false), ("attempt to divide by zero at a.rs:1", true)]);
        assert!(bug.contains("internal error"), "{bug}");
    }
}
