//! Failures of a device, recognised by the words of Burn, CubeCL and wgpu.
//!
//! CubeCL reports most of them as the panic of a read (`into_data`), or as a panic of the thread that owns the device,
//! which it catches. There is no type to match, only the text.

use std::any::Any;

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It had no memory for a tensor.
    OutOfMemory,
    /// It is gone until the program is started again: the driver was reset, a kernel ran too long, or the adapter was
    /// removed.
    Lost,
    /// It refused its work for another reason.
    Other,
}

/// A failure of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFault {
    /// What happened.
    pub kind: FaultKind,
    /// The words of the driver or of the library that reported it, on one line.
    pub text: String,
}

/// Largest number of characters of a driver's words that a message quotes; what follows is a backtrace.
const QUOTED: usize = 300;

/// Parts of texts that say that memory ran out: wgpu's uncaptured error, CubeCL's `IoError` and `LaunchError` as text
/// and in `Debug` format.
const OUT_OF_MEMORY: [&str; 6] = [
    "out of memory",
    "out of device memory",
    "out-of-memory",
    "outofmemory",
    "not enough memory left",
    // A buffer that is larger than any that the device has, and one for which no page is free.
    "can't allocate",
];
/// Parts of texts that say that a device was lost: wgpu's lost device, CubeCL's `DevicePoison`, Vulkan's error code.
const LOST: [&str; 6] = [
    "device was poisoned",
    "device is poisoned",
    "devicepoisoned",
    "device is lost",
    "device was lost",
    "error_device_lost",
];

/// Parts of the panics of a read whose value was never computed: Burn's `into_data`, its `ExecutionError`, CubeCL's
/// `IoError::NotFound`.
const READ: [&str; 3] = ["Error while reading data", "error happened during execution", "couldn't find resource"];

/// What stands before the cause of an error in its text, in lower case. CubeCL lists all work that was skipped before
/// the cause.
const CAUSED_BY: &str = "caused by:";

impl DeviceFault {
    /// Recognises the message of a panic or error; `None` if it is not that of a device. The text begins with the cause
    /// that was recognised.
    pub fn recognise(text: &str) -> Option<Self> {
        let line = one_line(text);
        let small = line.to_ascii_lowercase();
        let find = |parts: &[&str]| parts.iter().filter_map(|part| small.find(part)).min();
        let (kind, at) = match (find(&OUT_OF_MEMORY), find(&LOST)) {
            (Some(at), _) => (FaultKind::OutOfMemory, at),
            (None, Some(at)) => (FaultKind::Lost, at),
            (None, None) => return None,
        };
        let cause = small[..at].rfind(CAUSED_BY).map_or(0, |before| before + CAUSED_BY.len());
        Some(Self { kind, text: quote(&line[cause..]) })
    }

    /// The cause of a panic with the message `text`, `None` if it was not the device. If the text only says that a
    /// value could not be read, the cause is what a thread of the device had reported: `reported`.
    pub fn cause(text: &str, reported: Option<&str>) -> Option<Self> {
        let is_read = READ.iter().any(|part| text.contains(part));
        Self::recognise(text).or_else(|| reported.filter(|_| is_read).and_then(Self::recognise))
    }

    /// The failure that a text of the device reports, whatever its words are.
    pub(crate) fn of_device(text: &str) -> Self {
        Self::recognise(text).unwrap_or_else(|| Self { kind: FaultKind::Other, text: quote(text) })
    }
}

/// The text on one line, without what follows the first [`QUOTED`] characters.
fn quote(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

/// The words of the text with one space between any two.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The message of a panic.
pub(crate) fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of wgpu 30.0.1 (`Error`), cubecl-runtime 0.11.3 (`IoError`, `ServerError`) and cubecl-wgpu
    /// 0.11.3 (`PoisonWatch`).
    #[test]
    fn the_words_of_the_libraries_are_recognised() {
        let kind = |text| DeviceFault::recognise(text).map(|fault| fault.kind);
        for text in [
            "wgpu error: Out of Memory",
            "Error while reading data: WithContext { reason: \"out of device memory allocating 1024 bytes\\n\" }",
            "An out-of-memory error happened during launch",
            "called `Result::unwrap()` on an `Err` value: OutOfMemory { size: 64 }",
            "wgpu error: Validation Error Caused by: Not enough memory left.",
            "can't allocate buffer of size: 1921392128\nNo backtrace available",
            "Can't allocate 1024 bytes: every page size the memory tracks still holds live allocations",
        ] {
            assert_eq!(kind(text), Some(FaultKind::OutOfMemory), "{text}");
        }
        for text in [
            "The device was poisoned during launch Caused by: Unknown: driver reset",
            "DevicePoisoned(DevicePoison { reason: \"Unknown\" })",
            "wgpu error: Validation Error Caused by: Parent device is lost",
        ] {
            assert_eq!(kind(text), Some(FaultKind::Lost), "{text}");
        }
        assert_eq!(kind("index out of bounds: the len is 3 but the index is 3"), None);
        assert_eq!(DeviceFault::of_device("refused").kind, FaultKind::Other);
    }

    /// Tuning runs out of memory with one kernel and goes on with another: what a thread reported explains only a read
    /// that failed.
    #[test]
    fn what_a_thread_reported_explains_a_read_and_no_other_panic() {
        let reported = Some("wgpu error: Out of Memory");
        let read = "Error while reading data: use `try_into_data` instead: WithContext { reason: \"NotFound\" }";
        assert_eq!(DeviceFault::cause(read, reported).unwrap().kind, FaultKind::OutOfMemory);
        assert_eq!(DeviceFault::cause(read, None), None);
        assert_eq!(DeviceFault::cause("index out of bounds", reported), None);
        assert_eq!(DeviceFault::cause("Out of Memory", None).unwrap().kind, FaultKind::OutOfMemory);
    }

    /// The text of a read after a kernel on SwiftShader for which there was no buffer.
    #[test]
    fn the_cause_is_quoted_without_the_work_that_was_skipped() {
        let text = "Error while reading data: use `try_into_data` instead to catch the error at runtime: An error happened \
                    during execution\nCaused by:\n  Several failures at once\nCaused by:\n  The bytes were never written \
                    (failure #7, still claiming 2 buffer(s))\n  skipped `SliceKernel`: it needed memory ManagedMemoryId { \
                    value: 30 }, which carried the failure\nCaused by:\n  An IO error happened\nCaused by:\n  can't \
                    allocate buffer of size: 1921392128";
        let fault = DeviceFault::recognise(text).unwrap();
        assert_eq!(fault.kind, FaultKind::OutOfMemory);
        assert_eq!(fault.text, "can't allocate buffer of size: 1921392128");
    }

    #[test]
    fn a_backtrace_is_not_quoted() {
        let fault = DeviceFault::recognise(&format!("Out of Memory\n{}", "at frame\n".repeat(1000))).unwrap();
        assert!(fault.text.starts_with("Out of Memory at frame") && fault.text.chars().count() == QUOTED + 2);
    }
}
