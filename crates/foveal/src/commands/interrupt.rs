//! Ctrl-C: the first asks to stop, the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::failure::INTERRUPTED;

/// A flag that the first Ctrl-C (or SIGTERM) sets.
///
/// # Errors
/// When the system allows no handler.
pub fn flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("stopping after the step under way (Ctrl-C again: at once)");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}
