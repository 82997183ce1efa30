//! The program's memory allocator.

use libmimalloc_sys::{mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h (versions 2 and 3), which the bindings do not name.
const PURGE_DELAY: mi_option_t = 15;

/// Makes the allocator keep freed memory for the next allocation instead of returning it to the operating system after
/// some milliseconds. A training step frees and allocates the same hundreds of megabytes as the one before, whose pages
/// the system would have to clear each time.
#[allow(unsafe_code)]
pub(crate) fn keep_freed_memory() {
    const NEVER: std::ffi::c_long = -1;
    // SAFETY: the function accepts any option and value at any time.
    unsafe { mi_option_set(PURGE_DELAY, NEVER) };
}
