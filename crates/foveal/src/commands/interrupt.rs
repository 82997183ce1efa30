//! Handling of Ctrl-C: the first one requests a stop, the second one ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::failure::INTERRUPTED;

/// Returns a flag that the first Ctrl-C (or SIGTERM) sets. The second one ends the process with code [`INTERRUPTED`].
///
/// # Errors
/// If the handler cannot be installed.
pub(super) fn flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("stopping after the current step (press Ctrl-C again to stop immediately)");
    })
    .context("cannot install a handler for Ctrl-C")?;
    Ok(stop)
}
